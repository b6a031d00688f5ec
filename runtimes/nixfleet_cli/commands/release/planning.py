"""`nixfleet release plan`: how a release would go that is not published."""

from datetime import datetime
from pathlib import Path

import click

from nixfleet_cli.commands.logs.forecast import history_of
from nixfleet_cli.commands.release.shared import load_made
from nixfleet_cli.shared.arguments import at_time
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.database import reading, store_argument
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, printing
from nixfleet_cli.shared.policies import blast_radius_value
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_forecast.plan import PlanRefused, planned, unsigned
from nixfleet_forecast.words import forecast_lines
from nixfleet_proto.codec import DecodeError, encode_fleet, encode_manifest
from nixfleet_proto.fleet import Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_proto.signing import artefact_hash
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release import DeclarationError, Release, check
from nixfleet_release.build.pins import pinned_refs
from nixfleet_release.build.project import project
from nixfleet_release.build.resolve import resolve
from nixfleet_release.publish.changes import ReleaseContent, blast_radii
from nixfleet_runtime.http.forecasts import FORECAST, Forecast
from nixfleet_runtime.releases.layout import FLEET_FILE


@command("plan")
@click.argument("release", metavar="RELEASE", type=click.Path(exists=True, path_type=Path))
@store_argument
@click.option(
    "--ref",
    metavar="REF",
    help="Where RELEASE is a declaration: the channels' new ref. The hosts get closures that do not exist.",
)
@at_time
@click.option("--seed", type=int, default=0, show_default=True, help="Another one, other draws.")
@printing(
    "one object with the forecast (headSeq, at, runs, stages, rollouts, slow, unknown, assumptions) and blastRadius "
    "(hosts, worst, tolerated, inFlight, by rollout)"
)
def plan_release(
    output: Output,
    release: Path,
    store: StoreConfig,
    ref: str | None,
    at_time: datetime,
    seed: int,
) -> None:
    """Forecast a release that is not published.

    RELEASE is a directory of signed files, or a declaration (with --ref). It is published on the state at the end of
    the log in DB, in memory, and the fleet is run forward from there, as `nixfleet log forecast` does: when each wave
    begins and ends, what comes by the clock, which hosts are likely the last, and what only a person moves. Also shows
    how many hosts it may cost at worst. Nothing is verified and nothing is written. DB is the database of a control
    plane, which may be in use; `nixfleet operator plan` asks a control plane instead.

    Exit codes: 0 success; 1 the release is in force already, or a declaration has problems; 2 a file cannot be read.
    """
    made = release_at(release, ref, at_time)
    with reading(store) as stored:
        history = history_of(stored)
    try:
        forecast = planned(history.subject, unsigned(*texts_of(made)), at_time, seed=seed)
    except PlanRefused as error:
        raise Findings(f"{release}: {error}") from error
    except DecodeError as error:
        raise Unusable(f"{release}: {error}") from error
    show_plan(output, release, made, forecast)


def show_plan(output: Output, release: Path, made: Release, forecast: Forecast) -> None:
    """Print the forecast of a release beside what it may cost. Raises: Unusable, for a release that is none."""
    try:
        radii = blast_radii(ReleaseContent.by(made))
    except DecodeError as error:
        raise Unusable(f"{release}: {error}") from error
    value = FORECAST.to_json(forecast)
    assert isinstance(value, dict), value
    output.show(
        {**value, "blastRadius": {it: blast_radius_value(radius) for it, radius in radii.items()}},
        [
            *(f"{rollout_id}: {radius}" for rollout_id, radius in radii.items()),
            "",
            *forecast_lines(forecast),
        ],
    )


def release_at(path: Path, ref: str | None, now: datetime) -> Release:
    """Return the release in a directory, or that a declaration would give as `ref`. Raises: Findings, Unusable."""
    return _release_in(path) if ref is None else _declared(path, ref, now)


def _release_in(release: Path) -> Release:
    if not (release / FLEET_FILE).is_file():
        raise Unusable(
            f"{release}: expected a release, found no {FLEET_FILE}; of a declaration, give the --ref as well"
        )
    return load_made(release)


def _declared(file: Path, ref: str, now: datetime) -> Release:
    """Return the release that a declaration would give, unsigned. Raises: Findings."""
    try:
        checked = check(file, now=now)
        declared = checked.declaration
        closures = {
            name: f"{ref}-{name}" for name in declared.hosts if not declared.is_disabled(name)
        }
        refs = pinned_refs(checked, now)
        fleet = resolve(checked, closures, Meta(now), channel_ref=ref, other_refs=refs)
        body = encode_fleet(fleet)
        manifests = project(fleet, ref, artefact_hash(body), refs)
    except (DeclarationError, InvalidRolloutId) as error:
        raise Findings(*lines_of(error)) from error
    return Release(
        SignedArtefact(body, b""),
        FrozenMap({it.rollout_id: SignedArtefact(encode_manifest(it), b"") for it in manifests}),
    )


def texts_of(release: Release) -> tuple[str, tuple[str, ...]]:
    """Return the texts of a release's fleet and of its manifests."""
    manifests = tuple(artefact.body.decode() for artefact in release.manifests.values())
    return release.fleet.body.decode(), manifests
