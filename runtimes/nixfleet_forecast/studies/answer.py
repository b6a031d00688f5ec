"""Answers one question about a log that is read from its first row for it. Pure: the log is given.

Source: docs/spec/studies.md.
"""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any, Final

from nixfleet_control_plane.history.rebuild import ChainReport
from nixfleet_control_plane.messages.log_entry import chain_hash
from nixfleet_control_plane.reading.stored_log import StoredLog
from nixfleet_forecast.studies.backtest import back_tested
from nixfleet_forecast.studies.changes import changes_of
from nixfleet_forecast.studies.past import past_at
from nixfleet_forecast.studies.refusal import StudyRefused
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.studies import BACKTEST, CHAIN, CHANGES, PAST, LogChain, RowHash
from nixfleet_state_machine.planner.holds.calendar import Zones

ROWS_HASHED_MAX: Final = 5_000


def study(log: StoredLog, question: Mapping[str, Any], zones: Zones) -> bytes:
    """Return the answer to `question`. Raises: StudyRefused; what reading `log` raises; DamagedRow."""
    match question["study"]:
        case "past":
            return PAST.encode(past_at(log, question["row"], zones))
        case "changes":
            return CHANGES.encode(changes_of(log, RolloutId(question["rollout"])))
        case "backtest":
            return BACKTEST.encode(back_tested(log, RolloutId(question["rollout"]), zones))
        case "chain":
            return CHAIN.encode(chain(log, question["after"], question["limit"]))
        case unknown:
            raise StudyRefused(f"there is no study {unknown!r}")


def chain(log: StoredLog, after: int, limit: int) -> LogChain:
    """Return how far the log is intact, and the hashes of up to `limit` rows after row `after`, made anew from them."""
    report = log.ask(lambda it: it.verify())
    start = log.ask(lambda it: it.log_start())
    last = after + min(limit, ROWS_HASHED_MAX)
    hashes, head = list[RowHash](), start.prev_hash
    for row in takewhile(lambda it: it.seq <= last, log.rows(start.first_seq - 1)):
        head = chain_hash(head, row)
        if row.seq > after:
            hashes.append(RowHash(row.seq, head.hex()))
    return LogChain(
        _words(report),
        report.first_seq,
        report.rows,
        tuple(hashes),
        report.broken_at,
        report.problem,
    )


def _words(report: ChainReport) -> str:
    if report.broken_at is not None:
        return (
            f"The chain is broken at row {report.broken_at}: {report.problem or 'it was altered'}."
        )
    if not report.is_kept:
        return f"The store keeps no chain; each of the {report.rows} rows can be replayed."
    dropped = f" from row {report.first_seq}" if report.first_seq > 1 else ""
    return f"The chain is intact{dropped} up to row {report.rows}: each row follows from the one before."
