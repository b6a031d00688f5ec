"""`nixfleet operator forecast`, `plan`: how rollouts go on, and how a release would go, as a control plane says."""

from pathlib import Path
from urllib.parse import quote

import click

from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.commands import command
from nixfleet_forecast.words import forecast_lines
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.forecasts import FORECAST
from nixfleet_runtime.kernel.clock import SystemClock


@command()
@click.option("--rollout", metavar="ID", help="Only this rollout; default: all that are under way.")
@asks(
    "one object with headSeq, at, runs, stages, rollouts (of each rolloutId, state, hosts, settled, most, done, waves, "
    "stragglers, edges and waits), slow, unknown, calibration (ranges, held) and assumptions"
)
def forecast(session: Session, rollout: str | None) -> None:
    """Show how the rollouts under way go on.

    As `nixfleet log forecast`, which explains it; computed by the control plane, and up to a minute old.
    """
    about = "" if rollout is None else f"?rollout={quote(rollout, safe='@')}"
    found = session.read(f"{paths.FORECAST}{about}", FORECAST)
    session.output.show(FORECAST.to_json(found), forecast_lines(found))


@command()
@click.argument("release", metavar="RELEASE", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--ref",
    metavar="REF",
    help="Where RELEASE is a declaration: the channels' new ref. The hosts get closures that do not exist.",
)
@asks(
    "one object with the forecast (headSeq, at, runs, stages, rollouts, slow, unknown, assumptions) and blastRadius "
    "(hosts, worst, tolerated, inFlight, by rollout)"
)
def plan(session: Session, release: Path, ref: str | None) -> None:
    """Forecast a release that is not published.

    As `nixfleet release plan`, which explains it, against the fleet that the control plane has. RELEASE is a directory
    of signed files, or a declaration (with --ref); its artefacts are sent, and nothing is put in force.
    """
    from nixfleet_cli.commands.release.planning import release_at, show_plan, texts_of
    from nixfleet_runtime.http.plans import PLAN_BODY, PlanBody

    made = release_at(release, ref, SystemClock().now())
    body = PLAN_BODY.encode(PlanBody(*texts_of(made)))
    found = session.ask(paths.PLAN, body, FORECAST)
    show_plan(session.output, release, made, found)
