"""`nixfleet log forecast`: how the rollouts of a database go on."""

from collections.abc import Collection
from datetime import datetime

import click

from nixfleet_cli.shared.arguments import at_time
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.database import reading, store_argument
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.output import Output, printing
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.reading.stored_log import StoredLog
from nixfleet_forecast.course import going
from nixfleet_forecast.history import RANGES_MAX, History, to_judge
from nixfleet_forecast.words import forecast_lines
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.documents.problems import unknown
from nixfleet_runtime.http.forecasts import FORECAST
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_runtime.process import garbage


@command(name="forecast")
@store_argument
@at_time
@click.option("--rollout", metavar="ID", help="Only this rollout; default: all that are under way.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another one, other draws.")
@click.option(
    "--ranges",
    type=click.IntRange(0, RANGES_MAX),
    default=RANGES_MAX,
    show_default=True,
    help="Hold the forecast against so many rollouts that ended.",
)
@printing(
    "one object with headSeq, at, runs, stages, rollouts (of each rolloutId, state, hosts, settled, most, done, waves, "
    "stragglers, edges and waits), slow, unknown, calibration (ranges, held) and assumptions"
)
def forecast_log(
    output: Output,
    store: StoreConfig,
    at_time: datetime,
    rollout: str | None,
    seed: int,
    ranges: int,
) -> None:
    """Forecast how the rollouts under way go on.

    The control plane's own engine is run forward from the end of the log, many times, with durations that this fleet's
    hosts took before; what comes by the clock (windows, freezes, deadlines, bakes) is part of it. Shows when 95 of 100
    hosts are done and when all are, as ranges from P10 to P90; the same for each wave; the hosts that are likely the
    last; and how many of the last rollouts ended within the range that they would have been given. What only a person
    moves has no time: it is named instead. With fewer than five observations of a stage there is no forecast, and what
    is known is shown. Nothing is written. DB is the database of a control plane, which may be in use.

    Exit codes: 0 success; 1 a row is damaged, or no such rollout is under way; 2 DB cannot be read.
    """
    garbage.collect_rarely()
    with reading(store) as stored:
        history = history_of(stored, to_judge(stored.rows(), ranges) if ranges else ())
    wanted = None
    if rollout is not None:
        under_way = dict.fromkeys(map(str, going(history.subject.state)))
        if rollout not in under_way:
            raise Findings(str(unknown("--rollout", "rollout under way", rollout, under_way)))
        wanted = RolloutId(rollout)
    forecast = history.forecast(at_time, wanted, seed=seed)
    output.show(FORECAST.to_json(forecast), forecast_lines(forecast))


def history_of(stored: StoredLog, judged: Collection[str] = ()) -> History:
    """Return the whole log, as a forecast reads it. judged: as for `History`."""
    history = History(Replay(stored.ask(lambda it: it.log_start())), SystemZones(), judged)
    for row in stored.rows():
        history.take(row)
    return history
