"""Whoever has the trust file finds statements in the log that no operator made, and waves that began without them."""

from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.history.approvals import check_approvals
from nixfleet_control_plane.messages.log_entry import LoggedEntry, RolloutMoved
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_proto.signing import sign_approval
from nixfleet_proto.steering.approval import Decision
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_state_machine.rollout.event import Verdict, WaveAdvanced
from nixfleet_state_machine.rollout.guard_tally import Outcome
from tests.control_plane.test_engine_guards import KEYS, OPEN, TWO_APPROVE, Approved


@pytest.fixture
def fleet(scratch: Path) -> Approved:
    """A fleet whose second wave began with two approvals."""
    fleet = Approved(scratch, OPEN, TWO_APPROVE)
    fleet.finish("web-01")
    fleet.give(fleet.approval("ada"))
    fleet.give(fleet.approval("eve"))
    assert fleet.wave == 1
    return fleet


def _entries(fleet: Approved) -> list[LoggedEntry]:
    connection = open_for_reading(fleet.database)
    try:
        return list(log_entries(connection))
    finally:
        connection.close()


def _problems(fleet: Approved, entries: list[LoggedEntry]) -> list[str]:
    return [each.problem for each in check_approvals(entries, fleet.trust).problems]


def _moved(entry: LoggedEntry, event: Verdict) -> LoggedEntry:
    return evolve(entry, entry=RolloutMoved(event))


def _verdicts(entries: list[LoggedEntry]) -> list[tuple[int, LoggedEntry, Verdict]]:
    return [
        (index, each, each.entry.event)
        for index, each in enumerate(entries)
        if isinstance(each.entry, RolloutMoved) and isinstance(each.entry.event, Verdict)
    ]


def test_a_log_of_an_honest_control_plane_is_good(fleet: Approved) -> None:
    """Every statement is counted."""
    report = check_approvals(_entries(fleet), fleet.trust)
    assert (report.statements, report.problems) == (2, ())


def test_an_approval_that_the_control_plane_made_up_is_found(fleet: Approved) -> None:
    """It has no operator's key, whatever it writes: and then the wave began with too few."""
    entries = _entries(fleet)
    index, entry, event = _verdicts(entries)[1]
    forged = sign_approval(fleet.approval("bob"), KEYS["sam"])
    evidence = event.evidence.replace('"eve"', '"bob"')
    entries[index] = _moved(
        entry, evolve(event, judge="bob", evidence=evidence, signature=forged.signature)
    )
    signature, too_few = _problems(fleet, entries)

    assert signature.startswith("the statement of bob on wave 1 was not signed by bob: ")
    assert too_few == "wave 1 began with 1 of 2 approvals: ada"


def test_an_approval_that_is_used_for_another_wave_or_manifest_is_found(fleet: Approved) -> None:
    """What was signed says what it is about."""
    entries = _entries(fleet)
    for index, entry, event in _verdicts(entries):
        other = evolve(fleet.approval(event.judge, wave=0), manifest_hash="0" * 64)
        signed = sign_approval(other, KEYS[event.judge])
        evidence = event.evidence.replace('"wave":1', '"wave":0')
        evidence = evidence.replace(fleet.approval("ada").manifest_hash, "0" * 64)
        entries[index] = _moved(entry, evolve(event, evidence=evidence, signature=signed.signature))
    problems = _problems(fleet, entries)

    assert problems[0] == (
        "the statement of ada on wave 1 is about another wave: expected 1, found 0"
    )
    assert problems[1].startswith("the statement of ada on wave 1 is about another manifest: ")
    assert problems[-1] == "wave 1 began with 0 of 2 approvals"


def test_a_wave_that_began_without_its_approvals_is_found(fleet: Approved) -> None:
    """The row that let it begin is named."""
    entries = [
        each
        for each in _entries(fleet)
        if not (isinstance(each.entry, RolloutMoved) and isinstance(each.entry.event, Verdict))
    ]
    (problem,) = check_approvals(entries, fleet.trust).problems
    begun = next(
        each.seq
        for each in entries
        if isinstance(each.entry, RolloutMoved) and isinstance(each.entry.event, WaveAdvanced)
    )

    assert (problem.seq, problem.problem) == (begun, "wave 1 began with 0 of 2 approvals")


def test_a_statement_of_nobody_in_the_trust_file_is_found(fleet: Approved) -> None:
    """As of an operator who has left: keep the trust file of then."""
    without = evolve(fleet.trust, operators=fleet.trust.operators[1:])
    report = check_approvals(_entries(fleet), without)

    assert report.problems[0].problem == (
        "the statement of ada on wave 1 is of no operator of the trust file"
    )


def test_a_promotion_that_waives_what_may_not_be_waived_is_found(scratch: Path) -> None:
    """A signed promotion is good for what its manifest lists, and for nothing else."""
    fleet = Approved(scratch, OPEN, WaveGuards(30, Approvals(1, ("ada",)), waivable=("bake",)))
    fleet.finish("web-01")
    fleet.give(fleet.approval("sam", Decision.PROMOTE))
    fleet.give(fleet.approval("ada"))
    entries = _entries(fleet)
    assert _problems(fleet, entries) == []
    index, entry, event = _verdicts(entries)[0]
    assert event.outcome is Outcome.WAIVED
    entries[index] = _moved(entry, evolve(event, guard="approvals"))

    assert _problems(fleet, entries) == [
        "the statement of sam on wave 1 waives approvals, which may not be waived"
    ]
