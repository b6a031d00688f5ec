"""Checks the operators' statements in a log: that each was signed, and that no guarded wave began without enough.

A control plane holds no operator's key. So a log in which it made up an approval, or let a wave begin without one, is
found out by whoever has the trust file, without any connection.
Source: docs/spec/guards.md, Approvals.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from attrs import Factory, define, frozen

from nixfleet_control_plane.messages.log_entry import ArtefactTaken, LoggedEntry, RolloutMoved
from nixfleet_proto.codec import DecodeError, decode_approval, decode_fleet, decode_manifest
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import VerifyError, artefact_hash, verify_approval
from nixfleet_proto.steering.approval import Approval, Decision, SignedApproval
from nixfleet_proto.steering.guards import APPROVALS, WaveGuards
from nixfleet_proto.trust import TrustedKey, TrustRoot
from nixfleet_runtime.releases.layout import NONCES_FILE, REVOCATIONS_FILE
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import (
    MembersChanged,
    OperatorClearance,
    RolloutEvent,
    Verdict,
    WaveAdvanced,
    subject_of,
)
from nixfleet_state_machine.rollout.guard_tally import Outcome

_DECISIONS: Mapping[Outcome, Decision] = {
    Outcome.PASS: Decision.APPROVE,
    Outcome.FAIL: Decision.DENY,
    Outcome.WAIVED: Decision.PROMOTE,
}


@frozen
class ApprovalProblem:
    """What is wrong with row `seq`: a statement that nobody made, or a wave that began without enough."""

    seq: int
    problem: str


@frozen
class ApprovalsReport:
    """The number of statements in the log, and what is wrong."""

    statements: int
    problems: tuple[ApprovalProblem, ...]


@define
class _Rollout:
    """What is in force for a rollout, and who stated what of its waves that was good."""

    manifest_hash: str
    manifest: RolloutManifest
    terms: RolloutTerms | None
    approved: dict[int, set[str]] = Factory(lambda: defaultdict[int, set[str]](set))
    waived: dict[int, set[str]] = Factory(lambda: defaultdict[int, set[str]](set))

    def forget(self) -> None:
        """All statements so far count no more."""
        self.approved.clear()
        self.waived.clear()

    def guards_of(self, wave: int) -> WaveGuards:
        """Return the guards of a wave; none, if the fleet of its manifest is not in the log."""
        if self.terms is None or not 0 <= wave <= self.terms.last_wave:
            return WaveGuards()
        return self.terms.guards_of(wave)


def check_approvals(entries: Iterable[LoggedEntry], trust: TrustRoot) -> ApprovalsReport:
    """Return what is wrong with the statements in a log. trust: whose keys operators have."""
    reader = _Reader({each.name: each.public_key for each in trust.operators})
    for logged in entries:
        entry = logged.entry
        if isinstance(entry, ArtefactTaken):
            reader.take(entry)
        elif isinstance(entry, RolloutMoved):
            reader.move(logged.seq, entry.event)
    return ApprovalsReport(reader.statements, tuple(reader.problems))


class _Reader:
    def __init__(self, keys: Mapping[str, TrustedKey]) -> None:
        self._keys = keys
        self._fleets: dict[str, FleetResolved] = {}
        self._rollouts: dict[RolloutId, _Rollout] = {}
        self.statements = 0
        self.problems: list[ApprovalProblem] = []

    def take(self, entry: ArtefactTaken) -> None:
        body = entry.body.encode()
        if entry.rollout_id is None:
            if entry.name not in (REVOCATIONS_FILE, NONCES_FILE):
                self._fleets[artefact_hash(body)] = decode_fleet(body)
            return
        manifest = decode_manifest(body)
        fleet = self._fleets.get(manifest.fleet_resolved_hash)
        terms = None if fleet is None else RolloutTerms.of_values(manifest, fleet)
        known = self._rollouts.get(entry.rollout_id)
        if known is None:
            self._rollouts[entry.rollout_id] = _Rollout(artefact_hash(body), manifest, terms)
        else:
            # What was stated of the bytes before still counts, unless members changed.
            known.manifest_hash, known.manifest, known.terms = artefact_hash(body), manifest, terms

    def move(self, seq: int, event: RolloutEvent) -> None:
        rollout = self._rollouts.get(subject_of(event))
        if rollout is None:
            return
        if isinstance(event, OperatorClearance | MembersChanged):
            rollout.forget()
        elif isinstance(event, Verdict):
            self._judge(seq, rollout, event)
        elif isinstance(event, WaveAdvanced):
            for wave in range(event.from_wave + 1, event.to_wave + 1):
                self._begin(seq, rollout, wave)

    def _judge(self, seq: int, rollout: _Rollout, event: Verdict) -> None:
        if event.guard != APPROVALS and event.outcome is not Outcome.WAIVED:
            return
        self.statements += 1
        problems = tuple(_problems(rollout, event, self._keys))
        self.problems += (ApprovalProblem(seq, problem) for problem in problems)
        if problems:
            return
        if event.outcome is Outcome.PASS:
            rollout.approved[event.wave].add(event.judge)
        elif event.outcome is Outcome.WAIVED:
            rollout.waived[event.wave].add(event.guard)

    def _begin(self, seq: int, rollout: _Rollout, wave: int) -> None:
        asked = rollout.guards_of(wave).approvals
        if asked is None or APPROVALS in rollout.waived[wave]:
            return
        given = sorted(rollout.approved[wave] & set(asked.names))
        if len(given) < asked.count:
            who = f": {', '.join(given)}" if given else ""
            problem = f"wave {wave} began with {len(given)} of {asked.count} approvals{who}"
            self.problems.append(ApprovalProblem(seq, problem))


def _problems(rollout: _Rollout, event: Verdict, keys: Mapping[str, TrustedKey]) -> Iterator[str]:
    who = f"the statement of {event.judge} on wave {event.wave}"
    try:
        approval = decode_approval(event.evidence.encode())
    except DecodeError as error:
        yield f"{who} cannot be read: {error}"
        return
    yield from _differences(rollout, event, approval, who)
    key = keys.get(event.judge)
    if key is None:
        yield f"{who} is of no operator of the trust file"
        return
    try:
        verify_approval(SignedApproval(approval, event.signature or ""), key)
    except VerifyError as error:
        yield f"{who} was not signed by {event.judge}: {error}"


def _differences(rollout: _Rollout, event: Verdict, approval: Approval, who: str) -> Iterator[str]:
    guards = rollout.guards_of(event.wave)
    for what, expected, found in (
        ("rollout", event.rollout_id, approval.rollout_id),
        ("wave", event.wave, approval.wave),
        ("operator", event.judge, approval.operator),
        ("manifest", rollout.manifest_hash, approval.manifest_hash),
        ("decision", _DECISIONS.get(event.outcome), approval.decision),
    ):
        if expected != found:
            yield f"{who} is about another {what}: expected {expected}, found {found}"
    if event.outcome is Outcome.WAIVED and event.guard not in guards.waivable:
        yield f"{who} waives {event.guard}, which may not be waived"
    is_own = rollout.manifest.meta.author == event.judge
    if event.outcome is Outcome.PASS and is_own:
        yield f"{who} approves a release of its own"
