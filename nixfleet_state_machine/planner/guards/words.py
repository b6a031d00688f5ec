"""How guards stand, in words, for people: `1 of 2 approvals: ada, waits for one of bob, eve; bake until …`.

Source: docs/spec/guards.md, What is shown.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from nixfleet_proto.steering.guards import APPROVALS, BAKE, Approvals, Check, WaveGuards
from nixfleet_state_machine.planner.guards.states import (
    GuardedWave,
    GuardState,
    GuardStatus,
    broken_reason,
)


def guards_line(guarded: GuardedWave, declared: WaveGuards, author: str | None = None) -> str:
    """Return what is missing before the wave begins, each guard in some words; empty if nothing is.

    author: of the release, who does not approve it.
    """
    return "; ".join(_words(guarded, declared, author))


def guard_line(guard: GuardStatus, declared: WaveGuards, author: str | None = None) -> str:
    """Return how far one guard is, in some words. author: as for `guards_line`."""
    if guard.state is GuardState.BROKEN:
        return f"halted by {broken_reason(guard)}"
    if guard.state is GuardState.WAIVED and guard.tally is not None:
        return f"{guard.name} waived by {guard.tally.waived_by}"
    if declared.approvals is not None and guard.name == APPROVALS:
        return _approvals(guard, declared.approvals, author)
    checks = {check.name: check for check in declared.checks}
    return _check(guard, checks[guard.name]) if guard.name in checks else _bake(guard, declared)


def declared_words(guards: WaveGuards) -> Iterator[str]:
    """Yield what must have happened before a wave begins, as it is declared: one phrase for each guard."""
    waivable = dict.fromkeys(guards.waivable, " (waivable)")
    if guards.bake_minutes:
        yield f"bakes {guards.bake_minutes} min{waivable.get(BAKE, '')}"
    if guards.approvals is not None:
        asked = f"{guards.approvals.count} of {', '.join(guards.approvals.names)}"
        yield f"approved by {asked}{waivable.get(APPROVALS, '')}"
    for check in guards.checks:
        unclear = "" if check.inconclusive is None else f", {check.inconclusive} inconclusive"
        yield (
            f"check {check.name} by {check.judge}: {check.query} {check.comparison}, {check.passes} in a row, "
            f"{check.failures} may fail{unclear}, every {check.interval_seconds} s{waivable.get(check.name, '')}"
        )


def _words(guarded: GuardedWave, declared: WaveGuards, author: str | None) -> Iterator[str]:
    # One that halted the rollout says all: the others wait for nothing meanwhile.
    for guard in (guarded.broken,) if guarded.broken is not None else guarded.guards:
        if not guard.state.lets_begin:
            yield guard_line(guard, declared, author)


def _bake(guard: GuardStatus, declared: WaveGuards) -> str:
    if guard.state is GuardState.SATISFIED:
        return "bake over"
    if guard.until is None:
        return f"bake of {declared.bake_minutes} min"
    return f"bake until {_minute(guard.until)}"


def _approvals(guard: GuardStatus, approvals: Approvals, author: str | None) -> str:
    names = () if guard.tally is None else guard.tally.passed_by
    given = [name for name in names if name in approvals.names]
    by = f": {', '.join(given)}" if given else ""
    missing = approvals.count - len(given)
    others = [name for name in approvals.names if name not in (*given, author)]
    if missing > len(others):
        # The names are signed, and no further one of them may approve: another release is needed.
        waits = f", and never more than {len(given) + len(others)}: {author} is the author"
    elif missing > 0:
        waits = f", waits for {'one' if missing == 1 else missing} of {', '.join(others)}"
    else:
        waits = ""
    return f"{len(given)} of {approvals.count} approvals{by}{waits}"


def _check(guard: GuardStatus, check: Check) -> str:
    tally = guard.tally
    if tally is None:
        return f"check {check.name}: no answer of {check.judge} yet"
    passed = f"{min(tally.passes, check.passes)} of {check.passes} passes"
    failed = f", {tally.failures} of {check.failures} failures" if tally.failures else ""
    unclear = ""
    if tally.inconclusive:
        most = "" if check.inconclusive is None else f" of {check.inconclusive}"
        unclear = f", {tally.inconclusive}{most} inconclusive in a row"
    last = f"; last {tally.outcome}: {tally.reason}" if tally.reason else ""
    return f"check {check.name}: {passed}{failed}{unclear}{last}"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
