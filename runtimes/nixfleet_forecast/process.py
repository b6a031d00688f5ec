"""The forecast as a process of its own: follows a control plane's log, and answers questions on standard input.

The only file of this package that does I/O. A question is a line of JSON, `{"at": …, "rolloutId": …}`; the answer is a
line: the forecast as JSON, or `{"problem": …}`. It ends when standard input does, so none outlives its control plane.
Source: docs/spec/forecast.md, Its process.
"""

import json
import os
import sqlite3
import sys
from argparse import ArgumentParser
from contextlib import closing
from pathlib import Path
from typing import Final

from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.history.retention.log_start import log_start
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_forecast.history import History, to_judge
from nixfleet_proto.codec import parse_time
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.forecasts import FORECAST
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_runtime.process import garbage

_NICER: Final = 10
"""How much less urgent this process is than the control plane, which shares its machine."""


def main() -> None:
    """Answer questions about the database that the command line names, until there are none."""
    parser = ArgumentParser(prog="nixfleet_forecast.process")
    parser.add_argument("database", type=Path)
    database: Path = parser.parse_args().database
    os.nice(_NICER)
    garbage.collect_rarely()
    with closing(open_for_reading(database)) as connection:
        history: History | None = None
        for line in sys.stdin.buffer:
            history, answer = answered(history, connection, line)
            sys.stdout.buffer.write(answer + b"\n")
            sys.stdout.buffer.flush()


def answered(
    history: History | None, connection: sqlite3.Connection, line: bytes
) -> tuple[History, bytes]:
    """Return the log as it is read now, and the answer to the question in `line`. history: as it was read before.

    Raises: DamagedRow, sqlite3.Error: then the process ends, and the next one begins anew.
    """
    asked = json.loads(line)
    if history is None:
        judged = to_judge(read_log(connection))
        history = History(
            Replay(log_start(connection)), SystemZones(), judged, judged_after=_head_of(connection)
        )
    try:
        for row in read_log(connection, history.head_seq):
            history.take(row)
        rollout_id = asked.get("rolloutId")
        forecast = history.forecast(
            parse_time(asked["at"]), None if rollout_id is None else RolloutId(rollout_id)
        )
    except DamagedRow:
        raise
    except NixfleetError as error:
        return history, json.dumps({"problem": str(error)}).encode()
    return history, FORECAST.encode(forecast)


def _head_of(connection: sqlite3.Connection) -> int:
    (head,) = connection.execute("SELECT max(seq) FROM event_log").fetchone()
    return head or 0


if __name__ == "__main__":
    main()
