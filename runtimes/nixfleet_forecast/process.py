"""The forecast as a process of its own: follows a control plane's log, and answers questions on standard input.

The only file of this package that does I/O. A question is a line of JSON, `{"at": …}` for a forecast, with a `command`
or a `statement` for a preview; the answer is a line, the forecast or the preview as JSON. It ends when standard input
does, so none outlives its control plane.
Source: docs/spec/forecast.md, Its process.
"""

import json
import os
import sqlite3
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.history.retention.log_start import log_start
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.log_entry import Commanded, LogRow
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_forecast.history import History, to_judge
from nixfleet_forecast.preview import Asked, Statement, preview
from nixfleet_proto.codec import parse_time
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.approval import Decision
from nixfleet_runtime.http.forecasts import FORECAST
from nixfleet_runtime.http.previews import PREVIEW
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_runtime.process import garbage

COMMAND_KIND: Final = "operator_command"
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

    Raises: DamagedRow, sqlite3.Error, ValueError: then the process ends, and the next one begins anew.
    """
    asked = json.loads(line)
    now = parse_time(asked["at"])
    if history is None:
        judged = to_judge(read_log(connection))
        history = History(
            Replay(log_start(connection)), SystemZones(), judged, judged_after=_head_of(connection)
        )
    for row in read_log(connection, history.head_seq):
        history.take(row)
    meant = asked_in(asked)
    if meant is None:
        return history, FORECAST.encode(history.forecast(now))
    heard = {host: parse_time(at) for host, at in asked.get("heard", {}).items()}
    return history, PREVIEW.encode(preview(history.subject, meant, now, heard))


def asked_in(question: Mapping[str, Any]) -> Asked | None:
    """Return what a question asks to preview; `None`: nothing. A command is spelt as in the log."""
    if "command" in question:
        row = LogRow(1, question["at"], COMMAND_KIND, None, None, question["command"], None)
        entry = entry_of(row).entry
        assert isinstance(entry, Commanded), entry
        return entry.command
    if "statement" in question:
        said = question["statement"]
        rollout_id, decision = RolloutId(said["rolloutId"]), Decision(said["decision"])
        return Statement(rollout_id, said["wave"], decision, said["operator"])
    return None


def _head_of(connection: sqlite3.Connection) -> int:
    (head,) = connection.execute("SELECT max(seq) FROM event_log").fetchone()
    return head or 0


if __name__ == "__main__":
    main()
