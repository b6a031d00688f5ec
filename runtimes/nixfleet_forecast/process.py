"""The forecast as a process of its own: follows a control plane's log, and answers questions on standard input.

The only file of this package that does I/O. A question is a line of JSON, `{"at": …}` for a forecast, with a `command`,
a `statement` or an `order` for a preview, or a `release` for a plan; the answer is a line of JSON. While the log is
read for the first time a question waits a little, and is answered then with how far that is; the reading goes on
meanwhile. It ends when standard input does, so none outlives its control plane, and when it is asked nothing for an
hour. With `--study` it answers one question that needs the log to be read from its first row, and ends.
Source: docs/spec/forecast.md, Its process.
"""

import json
import os
import resource
import select
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from nixfleet_control_plane.config_store import StoreConfig, load_store_config, sqlite_config
from nixfleet_control_plane.forecaster import STUDY_OPTION
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.messages.entry_codec import DamagedRow, entry_of
from nixfleet_control_plane.messages.log_entry import Commanded, LogRow
from nixfleet_control_plane.reading.stored_log import FollowedLog, followed
from nixfleet_forecast.history import History, ToJudge
from nixfleet_forecast.orders import Order
from nixfleet_forecast.plan import PlanRefused, planned, unsigned
from nixfleet_forecast.preview import Asked, Statement, preview
from nixfleet_forecast.studies.answer import study
from nixfleet_forecast.studies.refusal import StudyRefused
from nixfleet_proto.codec import parse_time
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.approval import Decision
from nixfleet_proto.steering.warrant import ClosureRule
from nixfleet_runtime.http.forecasts import FORECAST
from nixfleet_runtime.http.previews import PREVIEW
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_runtime.process import garbage

COMMAND_KIND: Final = "operator_command"
WAIT_SECONDS: Final = 20.0
"""How long a question waits for the log to be read: shorter than a client waits for its answer."""
IDLE_SECONDS_MAX: Final = 3600.0
"""After so long without a question the memory is worth more than the reading that it saves."""
ANSWER_SECONDS: Final = 60.0
"""How long runs of a forecast are made: those that were made by then have to do."""
STUDY_SECONDS_MAX: Final = 240
"""How much processor time a study may take: its asker gives up earlier, and a control plane that was killed cannot."""
STUDY_BYTES_MAX: Final = 4 * 2**30
_SLICE_SECONDS: Final = 0.2
"""How long is read before a question is looked for."""
_NICER: Final = 10
"""How much less urgent this process is than the control plane, which shares its machine."""
_BYTES_AT_ONCE: Final = 65_536


def main() -> None:
    """Answer questions about the store that the command line names, until there are none."""
    parser = ArgumentParser(prog="nixfleet_forecast.process")
    named = parser.add_mutually_exclusive_group(required=True)
    named.add_argument("database", type=Path, nargs="?")
    named.add_argument("--config", type=Path)
    parser.add_argument(STUDY_OPTION, dest="is_study", action="store_true")
    given = parser.parse_args()
    os.nice(_NICER)
    garbage.collect_rarely()
    store: StoreConfig = (
        sqlite_config(given.database)
        if given.config is None
        else load_store_config(given.config, os.environ)
    )
    with followed(store.following()) as log:
        if given.is_study:
            _study(log, Questions(0))
        else:
            _serve(Reading(log), Questions(0))


def _study(log: FollowedLog, questions: "Questions") -> None:
    """Answer one question that needs the log to be read for it, within bounds of time and memory."""
    resource.setrlimit(resource.RLIMIT_CPU, (STUDY_SECONDS_MAX, STUDY_SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (STUDY_BYTES_MAX, STUDY_BYTES_MAX))
    line = questions.next()
    if line is None:
        return
    try:
        with log.look() as stored:
            answer = study(stored, json.loads(line), SystemZones())
    except (StudyRefused, DamagedRow) as error:
        answer = _impossible(str(error))
    except MemoryError:
        answer = _impossible(f"it needs more than {STUDY_BYTES_MAX // 2**30} GiB of memory")
    sys.stdout.buffer.write(answer + b"\n")
    sys.stdout.buffer.flush()


def _impossible(why: str) -> bytes:
    return json.dumps({"impossible": why}).encode()


def _serve(reading: "Reading", questions: "Questions") -> None:
    while True:
        # As long as there is something to read, there is something to do besides waiting.
        patience = IDLE_SECONDS_MAX if reading.is_at_end else 0.0
        if questions.is_waiting(patience):
            line = questions.next()
            if line is None:
                return
            is_read = reading.read(WAIT_SECONDS)
            answer = answered(reading.history, line) if is_read else reading.progress()
            sys.stdout.buffer.write(answer + b"\n")
            sys.stdout.buffer.flush()
        elif reading.is_at_end:
            return  # It was asked nothing for long enough.
        else:
            reading.read(_SLICE_SECONDS)


class Questions:
    """The lines that come by the file `descriptor`, which may be waited for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._read = b""

    def is_waiting(self, seconds: float) -> bool:
        """Return whether one has come, or the end, within so long."""
        if b"\n" in self._read:
            return True
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        return bool(ready)

    def next(self) -> bytes | None:
        """Wait for the next line and return it; `None`: there is none any more."""
        while b"\n" not in self._read:
            came = os.read(self._descriptor, _BYTES_AT_ONCE)
            if not came:
                return None
            self._read += came
        line, _, self._read = self._read.partition(b"\n")
        return line


class Reading:
    """A log that is read as far as it goes, a little at a time.

    is_at_end: it was read to its end, as of its last look.
    """

    def __init__(self, log: FollowedLog) -> None:
        self._log = log
        self._history: History | None = None
        self._rows = self._first_look()
        self._begun_at = time.monotonic()
        self._read = 0
        self._to_read = 0
        self.is_at_end = False

    @property
    def history(self) -> History:
        """The log as a forecast reads it, up to the last row that was read."""
        assert self._history is not None, "nothing was read yet"
        return self._history

    def read(self, seconds: float) -> bool:
        """Read for about so long at most; return whether the end of the log was reached, as of its last look.

        Raises: DamagedRow, NotReadable: then the process ends, and the next one begins anew.
        """
        ends_at = time.monotonic() + seconds
        for _ in self._rows:
            self._read += 1
            if time.monotonic() >= ends_at:
                self.is_at_end = False
                return False
        self.is_at_end = True
        self._rows = self._look()
        return True

    def progress(self) -> bytes:
        """Return how far the reading is, and for how many seconds it may go on, as a line."""
        took = time.monotonic() - self._begun_at
        left = took * (self._to_read - self._read) / max(self._read, 1)
        value = {"read": self._read, "toRead": self._to_read, "seconds": max(1, round(left))}
        return json.dumps({"reading": value}).encode()

    def _first_look(self) -> Iterator[LogRow]:
        """Yield every row twice: first to find the rollouts whose ranges are worth computing."""
        finder = ToJudge()
        with self._log.look() as log:
            start, head = log.ask(lambda it: it.log_start()), log.ask(lambda it: it.head())
            self._to_read = 2 * (head - start.first_seq + 1)
            last_seq = start.first_seq - 1
            for row in log.rows(last_seq):
                finder.take(row)
                last_seq = row.seq
                yield row
            replay, zones = Replay(start), SystemZones()
            self._history = History(replay, zones, finder.found(), judged_after=last_seq)
            yield from self._taken(log.rows(replay.state.head_seq))

    def _look(self) -> Iterator[LogRow]:
        self._begun_at, self._read = time.monotonic(), 0
        with self._log.look() as log:
            self._to_read = log.ask(lambda it: it.head()) - self.history.head_seq
            yield from self._taken(log.rows(self.history.head_seq))

    def _taken(self, rows: Iterator[LogRow]) -> Iterator[LogRow]:
        for row in rows:
            self.history.take(row)
            yield row


def answered(history: History, line: bytes) -> bytes:
    """Return the answer to the question in `line`, as of the rows that `history` took. Raises: ValueError."""
    asked = json.loads(line)
    now = parse_time(asked["at"])
    ends_at = time.monotonic() + ANSWER_SECONDS

    def is_late() -> bool:
        return time.monotonic() >= ends_at

    if "release" in asked:
        said = asked["release"]
        try:
            release = unsigned(said["fleet"], said["manifests"])
            return FORECAST.encode(planned(history.subject, release, now, is_late=is_late))
        except PlanRefused as error:
            return json.dumps({"refused": error.why}).encode()
    meant = asked_in(asked)
    if meant is None:
        return FORECAST.encode(history.forecast(now, is_late=is_late))
    heard = {host: parse_time(at) for host, at in asked.get("heard", {}).items()}
    return PREVIEW.encode(preview(history.subject, meant, now, heard))


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
    if "order" in question:
        said = question["order"]
        expires_at = parse_time(question["at"]) + timedelta(minutes=said["expiresMinutes"])
        rule, hosts = ClosureRule(said["rule"]), tuple(said["hosts"])
        return Order(RolloutId(said["rolloutId"]), rule, hosts, expires_at, said["operator"])
    return None


if __name__ == "__main__":
    main()
