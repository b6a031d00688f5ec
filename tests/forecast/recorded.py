"""Logs as a back-test reads them, and what they say themselves of how rollouts went."""

from contextlib import closing
from datetime import datetime
from pathlib import Path

from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.history.retention.log_start import log_start
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.log_entry import RolloutMoved
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_forecast.backtest.backtest import BackTest, Play, Revise
from nixfleet_forecast.backtest.recording import Recording
from nixfleet_forecast.course import GOING
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_state_machine.rollout.event import subject_of
from nixfleet_state_machine.rollout.state import RolloutState

Ends = dict[str, tuple[RolloutState, datetime]]


def played(database: Path, revise: Revise = lambda taken: taken) -> BackTest:
    """Return how the rollouts of `database` go under another policy."""
    with closing(open_for_reading(database)) as connection:
        rows = tuple(read_log(connection))
        start = log_start(connection)
    recording = Recording(Replay(start))
    for row in rows:
        recording.take(row)
    state = Replay(start).state
    return Play(recording, state, SystemZones(), revise).run()


def recorded_ends(database: Path) -> Ends:
    """Return when each rollout first came to an end, or was halted, and its state then; by the log alone."""
    ends: Ends = {}
    with closing(open_for_reading(database)) as connection:
        replay = Replay(log_start(connection))
        for row in read_log(connection):
            for _ in replay.take(row):
                pass
            entry = entry_of(row).entry
            if isinstance(entry, RolloutMoved):
                record = replay.state.view.rollouts.get(subject_of(entry.event))
                if record is not None and record.state not in GOING:
                    ends.setdefault(record.rollout_id, (record.state, entry_of(row).at))
    return ends


def played_ends(played: BackTest) -> dict[str, datetime]:
    """Return when each rollout came to an end in a back-test."""
    return {it.rollout_id: it.ended_at for it in played.rollouts if it.ended_at is not None}
