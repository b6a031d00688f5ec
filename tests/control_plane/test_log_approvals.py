"""Whoever has the trust file finds statements in the log that no operator made, and waves that began without them."""

from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.history.approvals import EarlierTrust, check_approvals
from nixfleet_control_plane.messages.inputs import RelayWarrant
from nixfleet_control_plane.messages.log_entry import (
    ArtefactTaken,
    Commanded,
    LoggedLine,
    Planned,
    RolloutMoved,
)
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_proto.codec import decode_fleet, decode_manifest, encode_fleet, encode_manifest
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.policy import Recall, RolloutPolicy
from nixfleet_proto.signing import artefact_hash, sign_approval
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.approval import Decision
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_proto.trust import OperatorRole
from nixfleet_state_machine.rollout.event import OperatorClearance, Verdict, WaveAdvanced
from nixfleet_state_machine.rollout.guard_tally import Outcome
from tests.control_plane.test_engine_guards import KEYS, OPEN, TWO_APPROVE, Approved
from tests.engines.releases import Layout


@pytest.fixture
def fleet(scratch: Path) -> Approved:
    """A fleet whose second wave began with two approvals."""
    fleet = Approved(scratch, OPEN, TWO_APPROVE)
    fleet.finish("web-01")
    fleet.give(fleet.approval("ada"))
    fleet.give(fleet.approval("eve"))
    assert fleet.wave == 1
    return fleet


def _entries(fleet: Approved) -> list[LoggedLine]:
    connection = open_for_reading(fleet.database)
    try:
        return list(log_entries(connection))
    finally:
        connection.close()


def _problems(fleet: Approved, entries: list[LoggedLine]) -> list[str]:
    return [each.problem for each in check_approvals(entries, fleet.trust).problems]


def _moved(entry: LoggedLine, event: Verdict) -> LoggedLine:
    return evolve(entry, entry=RolloutMoved(event))


def _verdicts(entries: list[LoggedLine]) -> list[tuple[int, LoggedLine, Verdict]]:
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


def test_a_statement_of_an_operator_who_left_later_is_good_by_the_trust_file_of_then(
    fleet: Approved,
) -> None:
    """An honest log stays good when the trust file changes."""
    without = evolve(fleet.trust, operators=fleet.trust.operators[1:])
    earlier = EarlierTrust(fleet.now + timedelta(seconds=1), fleet.trust)
    report = check_approvals(_entries(fleet), without, [earlier])

    assert (report.statements, report.problems) == (2, ())


def test_a_statement_of_an_operator_who_had_left_is_found(fleet: Approved) -> None:
    """A key that is good for the rows before proves nothing afterwards: it may have been stolen."""
    entries = _entries(fleet)
    given = _verdicts(entries)[0][1]
    without = evolve(fleet.trust, operators=fleet.trust.operators[1:])
    left_before = EarlierTrust(given.at, fleet.trust)
    expected = "the statement of ada on wave 1 is of no operator of the trust file"
    assert check_approvals(entries, without, [left_before]).problems[0].problem == expected


def test_a_row_that_is_dated_back_is_checked_by_the_trust_file_of_its_place(
    fleet: Approved,
) -> None:
    """The times are the control plane's word, and their order is not."""
    entries = _entries(fleet)
    index, given, _ = _verdicts(entries)[0]
    left_at = given.at - timedelta(seconds=1)
    entries[index] = evolve(given, at=left_at - timedelta(hours=1))
    entries[index - 1] = evolve(entries[index - 1], at=left_at)
    without = evolve(fleet.trust, operators=fleet.trust.operators[1:])
    (first, *_) = check_approvals(entries, without, [EarlierTrust(left_at, fleet.trust)]).problems

    assert first.problem == "the statement of ada on wave 1 is of no operator of the trust file"


def test_each_trust_file_is_asked_for_its_own_time(fleet: Approved) -> None:
    """In whatever order they are given."""
    nobody = evolve(fleet.trust, operators=())
    start, end = _entries(fleet)[0].at, fleet.now
    earlier = [
        EarlierTrust(end + timedelta(seconds=1), fleet.trust),
        EarlierTrust(start - timedelta(seconds=1), nobody),
    ]
    assert check_approvals(_entries(fleet), nobody, earlier).problems == ()


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


# --- a log that was written by somebody else -------------------------------------------------------


def _without_verdicts(entries: list[LoggedLine]) -> list[LoggedLine]:
    return [each for each in entries if not _is_event(each, Verdict)]


def _is_event(entry: LoggedLine, kind: type[Verdict] | type[WaveAdvanced]) -> bool:
    return isinstance(entry.entry, RolloutMoved) and isinstance(entry.entry.event, kind)


def test_a_host_that_is_dispatched_before_its_wave_begins_is_found(fleet: Approved) -> None:
    """The row in which the wave began was left out with the approvals; one host of a wave is named."""
    entries = _without_verdicts(_entries(fleet))
    entries = [each for each in entries if not _is_event(each, WaveAdvanced)]

    assert _problems(fleet, entries) == ["web-02 of wave 1 was dispatched before its wave began"]


def test_an_acknowledged_dispatch_of_a_wave_that_never_began_is_found(fleet: Approved) -> None:
    """The facts of hosts are enough: the control plane cannot sign for them."""
    fleet.finish("web-02")
    entries = _without_verdicts(_entries(fleet))
    entries = [
        each
        for each in entries
        if not isinstance(each.entry, Planned) and not _is_event(each, WaveAdvanced)
    ]

    assert _problems(fleet, entries) == ["web-02 of wave 1 was dispatched before its wave began"]


def test_a_wave_that_is_said_to_begin_after_another_is_found(fleet: Approved) -> None:
    """It began after the wave that was reached, whatever the row says, so its approvals are asked."""
    entries = _without_verdicts(_entries(fleet))
    for index, each in enumerate(entries):
        if isinstance(each.entry, RolloutMoved) and isinstance(each.entry.event, WaveAdvanced):
            said = evolve(each.entry.event, from_wave=1)
            entries[index] = evolve(each, entry=RolloutMoved(said))

    assert _problems(fleet, entries) == [
        "wave 1 began after wave 1: expected after wave 0, the last begun",
        "wave 1 began with 0 of 2 approvals",
    ]


def test_a_manifest_whose_fleet_is_missing_is_found(fleet: Approved) -> None:
    """Without it the guards are not known, which is no reason to let all pass."""
    entries = [
        each
        for each in _entries(fleet)
        if not isinstance(each.entry, ArtefactTaken) or each.entry.rollout_id is not None
    ]
    (problem, *_) = _problems(fleet, entries)

    assert problem.endswith("is not in the log before: what its waves need is not known")


def test_a_rollout_whose_manifest_is_missing_is_found(fleet: Approved) -> None:
    """It is named once, not with each of its rows."""
    entries = [each for each in _entries(fleet) if not isinstance(each.entry, ArtefactTaken)]

    assert _problems(fleet, entries) == ["the manifest of stable@r1 is not in the log before"]


def test_artefacts_that_ci_did_not_sign_are_found(fleet: Approved) -> None:
    """A fleet without guards and a manifest of it: each is named, by the row in which it was taken."""
    entries = _without_verdicts(_entries(fleet))
    fleet_hash = ""
    for index, each in enumerate(entries):
        taken = each.entry
        if not isinstance(taken, ArtefactTaken):
            continue
        if taken.rollout_id is None:
            declared = decode_fleet(taken.body.encode())
            waves = {
                channel: tuple(evolve(wave, guards=WaveGuards()) for wave in of_channel)
                for channel, of_channel in declared.waves.items()
            }
            body = encode_fleet(evolve(declared, waves=FrozenMap(waves)))
            fleet_hash = artefact_hash(body)
        else:
            manifest = decode_manifest(taken.body.encode())
            body = encode_manifest(evolve(manifest, fleet_resolved_hash=fleet_hash))
        forged = evolve(taken, body=body.decode(), signature="00" * 64)
        entries[index] = evolve(each, entry=forged)
    problems = _problems(fleet, entries)

    assert len(problems) == 2
    assert all(
        " was not signed by CI: signed by none of the trusted keys " in it for it in problems
    )


def test_a_statement_of_an_operator_who_only_reads_is_found(fleet: Approved) -> None:
    """Its signature is good, and is worth nothing."""
    operators = tuple(
        evolve(each, role=OperatorRole.READ) if each.name == "ada" else each
        for each in fleet.trust.operators
    )
    report = check_approvals(_entries(fleet), evolve(fleet.trust, operators=operators))

    assert [each.problem for each in report.problems] == [
        "the statement of ada on wave 1 is of an operator with another role: expected operate, found read",
        "wave 1 began with 1 of 2 approvals: eve",
    ]


def _recalled(scratch: Path) -> Approved:
    policy = RolloutPolicy(recall=Recall.OPERATOR)
    fleet = Approved(scratch, layout=Layout(policy=policy))
    until = fleet.now + timedelta(hours=8)
    warrant = Warrant("o1", fleet.r1, ClosureRule.PRIOR, "ada", "bad", fleet.now, until)
    text = encode_signed_warrant(sign_warrant(warrant, KEYS["ada"])).decode()
    assert fleet.command(RelayWarrant(fleet.r1, text, "ada", "bad")).refusal is None
    return fleet


def test_a_warrant_that_its_operator_signed_is_good(scratch: Path) -> None:
    """It is a statement as the others are."""
    fleet = _recalled(scratch)
    report = check_approvals(_entries(fleet), fleet.trust)

    assert (report.statements, report.problems) == (1, ())


def test_a_warrant_that_its_operator_did_not_sign_is_found(scratch: Path) -> None:
    """Hosts refuse it too; the log says that it was relayed."""
    fleet = _recalled(scratch)
    entries = [
        evolve(
            each, entry=Commanded(evolve(command, warrant=command.warrant.replace("bad", "odd")))
        )
        if isinstance(each.entry, Commanded)
        and isinstance(command := each.entry.command, RelayWarrant)
        else each
        for each in _entries(fleet)
    ]
    (problem,) = _problems(fleet, entries)

    assert problem.startswith(
        "the warrant of ada for stable@r1 is not good: order o1 for stable@r1: "
    )


def test_a_statement_that_comes_again_after_a_clearance_is_found(fleet: Approved) -> None:
    """The same signed bytes say what was said before it, which counts no more."""
    entries = _entries(fleet)
    (_, first, event), _ = _verdicts(entries)
    index = entries.index(first)
    cleared = OperatorClearance(fleet.r1, "ada", "go on", frozenset(), event.at)
    entries[index + 1 : index + 1] = [evolve(first, entry=RolloutMoved(cleared)), first]

    assert _problems(fleet, entries) == [
        "the statement of ada on wave 1 comes again after a clearance or another manifest, since which "
        "it counts no more",
        "wave 1 began with 1 of 2 approvals: eve",
    ]


def test_an_approval_of_who_is_the_author_of_a_manifest_signed_again_is_found(
    scratch: Path,
) -> None:
    """It was good for the manifest before; the wave began under the one that names its author."""
    fleet = Approved(scratch, OPEN, TWO_APPROVE)
    fleet.finish("web-01")
    fleet.give(fleet.approval("ada"))
    entries = _entries(fleet)
    fleet.wait(minutes=1)
    fleet.offer(fleet.ci.release(evolve(fleet.layout, author="ada"), "r1", fleet.now))
    taken = [each for each in _entries(fleet) if isinstance(each.entry, ArtefactTaken)]
    fleet.give(fleet.approval("eve"))
    (eve,) = [each for _, each, event in _verdicts(_entries(fleet)) if event.judge == "eve"]
    begun = evolve(eve, entry=RolloutMoved(WaveAdvanced(fleet.r1, 0, 1, fleet.now)))
    entries += [each for each in taken if each.seq > entries[-1].seq]

    assert _problems(fleet, [*entries, eve, begun]) == ["wave 1 began with 1 of 2 approvals: eve"]
