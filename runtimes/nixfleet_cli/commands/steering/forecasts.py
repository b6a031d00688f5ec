"""`nixfleet operator forecast`: how the rollouts under way go on, as the control plane computes it."""

from urllib.parse import quote

import click

from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.commands import command
from nixfleet_forecast.words import forecast_lines
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.forecasts import FORECAST


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
