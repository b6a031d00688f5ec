"""Checks the operators' statements in a log: that each was signed, and that no guarded wave began without enough.

A control plane holds no operator's key, and not the key of CI. So a log in which it made up an approval, a warrant or a
release, or let a wave begin without its approvals, is found out by whoever has the trust file, without any connection.
Signatures are checked with the keys of the trust file that was in force when the row was written. How old an artefact
was when it was taken is not looked at.
Source: docs/spec/guards.md, Approvals.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from attrs import Factory, define, frozen

from nixfleet_control_plane.messages.inputs import RelayWarrant
from nixfleet_control_plane.messages.log_entry import (
    ArtefactTaken,
    Commanded,
    FactReported,
    LoggedLine,
    Planned,
    RolloutMoved,
)
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.codec import DecodeError, decode_approval, decode_fleet, decode_manifest
from nixfleet_proto.codec.warrant import decode_signed_warrant
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import VerifyError, artefact_hash, canonical_form, verify_approval
from nixfleet_proto.signing.artefact import signer_of
from nixfleet_proto.signing.payload import signature_bytes
from nixfleet_proto.signing.warrant import WarrantUnverified, verify_warrant
from nixfleet_proto.steering.approval import Approval, Decision, SignedApproval
from nixfleet_proto.steering.guards import APPROVALS, WaveGuards
from nixfleet_proto.trust import Operator, OperatorRole, TrustRoot
from nixfleet_runtime.releases.layout import NONCES_FILE, REVOCATIONS_FILE
from nixfleet_state_machine.planner.action import QueueDispatch
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import (
    MembersChanged,
    OperatorClearance,
    RolloutEvent,
    RolloutOpened,
    Verdict,
    WaveAdvanced,
    subject_of,
)
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import BEFORE_FIRST_WAVE

_DECISIONS: Mapping[Outcome, Decision] = {
    Outcome.PASS: Decision.APPROVE,
    Outcome.FAIL: Decision.DENY,
    Outcome.WAIVED: Decision.PROMOTE,
}


@frozen
class ApprovalProblem:
    """What is wrong with row `seq`: a statement or an artefact that was not signed, or a wave that began too early."""

    seq: int
    problem: str


@frozen
class ApprovalsReport:
    """The number of statements in the log, and what is wrong."""

    statements: int
    problems: tuple[ApprovalProblem, ...]


@define
class _Rollout:
    """What is in force for a rollout, how far it came, and who stated what of its waves that was good.

    reached: the last wave that began. dispatched: the hosts that were. early: the waves of which one was, too early.
    given: the signatures of its statements. spent: those from before its last clearance.
    """

    manifest_hash: str
    manifest: RolloutManifest
    terms: RolloutTerms | None
    reached: int = BEFORE_FIRST_WAVE
    dispatched: set[str] = Factory(set[str])
    early: set[int] = Factory(set[int])
    given: set[str] = Factory(set[str])
    spent: set[str] = Factory(set[str])
    approved: dict[int, set[str]] = Factory(lambda: defaultdict[int, set[str]](set))
    waived: dict[int, set[str]] = Factory(lambda: defaultdict[int, set[str]](set))

    def __attrs_post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """The first wave begins at once, unless it is guarded."""
        self.reached = BEFORE_FIRST_WAVE if self.guards_of(0).is_declared else 0

    def forget(self) -> None:
        """All statements so far count no more."""
        self.approved.clear()
        self.waived.clear()
        self.spent |= self.given

    def guards_of(self, wave: int) -> WaveGuards:
        """Return the guards of a wave; none, if the fleet of its manifest is not in the log."""
        if self.terms is None or not 0 <= wave <= self.terms.last_wave:
            return WaveGuards()
        return self.terms.guards_of(wave)

    def is_early(self, host: str) -> bool:
        """Return whether a wave that needs approvals has not begun, which is the host's or before the host's."""
        wave = None if self.terms is None else self.terms.wave_of.get(host)
        if wave is None:
            return False
        return any(self.guards_of(it).approvals for it in range(self.reached + 1, wave + 1))


@frozen
class EarlierTrust:
    """A trust file that was in force before another one. until: when that one took its place."""

    until: datetime
    trust: TrustRoot


def check_approvals(
    entries: Iterable[LoggedLine], trust: TrustRoot, earlier: Iterable[EarlierTrust] = ()
) -> ApprovalsReport:
    """Return what is wrong with the statements in a log, and with the artefacts that say which are needed.

    trust: whose keys CI and the operators have. earlier: the trust files before, in any order. A row is checked with
    the file that was in force then, and with no other: the key of an operator who has left proves nothing afterwards.
    A row that is dated before one above it counts as dated like that one, so that no row can be dated back.
    """
    reader = _Reader(trust, earlier)
    for logged in entries:
        reader.read(logged)
    return ApprovalsReport(reader.statements, tuple(reader.problems))


class _Reader:
    def __init__(self, trust: TrustRoot, earlier: Iterable[EarlierTrust]) -> None:
        self._latest_at: datetime | None = None
        self._earlier = deque(sorted(earlier, key=lambda each: each.until))
        self._newest = trust
        self._use_trust_of_then()
        self._fleets: dict[str, FleetResolved] = {}
        self._rollouts: dict[RolloutId, _Rollout] = {}
        self._without_manifest: set[RolloutId] = set()
        self.statements = 0
        self.problems: list[ApprovalProblem] = []

    def read(self, logged: LoggedLine) -> None:
        """Take the next row of the log. Most rows have nothing to do with guards."""
        seq, entry = logged.seq, logged.entry
        if self._latest_at is None or logged.at > self._latest_at:
            self._latest_at = logged.at
            while self._earlier and self._earlier[0].until <= logged.at:
                self._earlier.popleft()
                self._use_trust_of_then()
        if isinstance(entry, ArtefactTaken):
            self._take(seq, entry)
        elif isinstance(entry, RolloutMoved):
            self._move(seq, entry.event)
        elif isinstance(entry, Planned):
            if isinstance(entry.action, QueueDispatch):
                self._dispatch(seq, entry.action.rollout_id, entry.action.host)
        elif isinstance(entry, FactReported):
            if isinstance(entry.fact, DispatchAck):
                self._dispatch(seq, entry.rollout_id, entry.host)
        elif isinstance(entry, Commanded) and isinstance(entry.command, RelayWarrant):
            self.statements += 1
            for problem in _warrant_problems(entry.command, self._trust, logged.at):
                self._report(seq, problem)

    def _use_trust_of_then(self) -> None:
        self._trust = self._earlier[0].trust if self._earlier else self._newest
        self._operators = {each.name: each for each in self._trust.operators}

    def _report(self, seq: int, problem: str) -> None:
        self.problems.append(ApprovalProblem(seq, problem))

    def _take(self, seq: int, entry: ArtefactTaken) -> None:
        if entry.rollout_id is None and entry.name in (REVOCATIONS_FILE, NONCES_FILE):
            return
        body = entry.body.encode()
        try:
            signer_of(
                canonical_form(body), signature_bytes(entry.signature), self._trust.ci_release_key
            )
        except VerifyError as error:
            self._report(seq, f"{entry.name} was not signed by CI: {error}")
        try:
            if entry.rollout_id is None:
                self._fleets[artefact_hash(body)] = decode_fleet(body)
            else:
                self._take_manifest(seq, entry.rollout_id, body)
        except (DecodeError, InvalidValue, VerifyError) as error:
            self._report(seq, f"{entry.name} cannot be read: {error}")

    def _take_manifest(self, seq: int, rollout_id: RolloutId, body: bytes) -> None:
        manifest = decode_manifest(body)
        if manifest.rollout_id != rollout_id:
            problem = f"the manifest of {rollout_id} is that of {manifest.rollout_id}"
            self._report(seq, problem)
        fleet = self._fleets.get(manifest.fleet_resolved_hash)
        if fleet is None:
            problem = f"fleet {manifest.fleet_resolved_hash} of the manifest of {rollout_id} is not in the log before"
            self._report(seq, f"{problem}: what its waves need is not known")
        terms = None if fleet is None else RolloutTerms.of_values(manifest, fleet)
        known = self._rollouts.get(rollout_id)
        if known is None:
            self._rollouts[rollout_id] = _Rollout(artefact_hash(body), manifest, terms)
        else:
            # What was stated of the bytes before still counts, unless members changed.
            known.manifest_hash, known.manifest, known.terms = artefact_hash(body), manifest, terms

    def _rollout(self, seq: int, rollout_id: RolloutId) -> _Rollout | None:
        rollout = self._rollouts.get(rollout_id)
        if rollout is None and rollout_id not in self._without_manifest:
            self._without_manifest.add(rollout_id)
            self._report(seq, f"the manifest of {rollout_id} is not in the log before")
        return rollout

    def _move(self, seq: int, event: RolloutEvent) -> None:
        rollout = self._rollout(seq, subject_of(event))
        if rollout is None:
            return
        if isinstance(event, RolloutOpened):
            rollout.open()
        elif isinstance(event, OperatorClearance | MembersChanged):
            rollout.forget()
        elif isinstance(event, Verdict):
            self._judge(seq, rollout, event)
        elif isinstance(event, WaveAdvanced):
            self._advance(seq, rollout, event)

    def _advance(self, seq: int, rollout: _Rollout, event: WaveAdvanced) -> None:
        if event.from_wave != rollout.reached:
            problem = f"wave {event.to_wave} began after wave {event.from_wave}"
            self._report(seq, f"{problem}: expected after wave {rollout.reached}, the last begun")
        for wave in range(rollout.reached + 1, event.to_wave + 1):
            self._begin(seq, rollout, wave)
        rollout.reached = max(rollout.reached, event.to_wave)

    def _dispatch(self, seq: int, rollout_id: RolloutId, host: str) -> None:
        """Note a dispatch. Only the first of a host is looked at: members may change their waves later."""
        rollout = self._rollout(seq, rollout_id)
        if rollout is None or rollout.terms is None or host in rollout.dispatched:
            return
        rollout.dispatched.add(host)
        wave = rollout.terms.wave_of.get(host)
        if wave is None or wave in rollout.early or not rollout.is_early(host):
            return
        rollout.early.add(wave)
        self._report(seq, f"{host} of wave {wave} was dispatched before its wave began")

    def _judge(self, seq: int, rollout: _Rollout, event: Verdict) -> None:
        if event.guard != APPROVALS and event.outcome is not Outcome.WAIVED:
            return
        self.statements += 1
        problems = tuple(_problems(rollout, event, self._operators))
        rollout.given.add(event.signature or "")
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
        # Whoever approved, and then is the author of a manifest that was signed again, approved a release of their own.
        judges = set(asked.names) - {rollout.manifest.meta.author}
        given = sorted(rollout.approved[wave] & judges)
        if len(given) < asked.count:
            who = f": {', '.join(given)}" if given else ""
            problem = f"wave {wave} began with {len(given)} of {asked.count} approvals{who}"
            self.problems.append(ApprovalProblem(seq, problem))


def _problems(
    rollout: _Rollout, event: Verdict, operators: Mapping[str, Operator]
) -> Iterator[str]:
    who = f"the statement of {event.judge} on wave {event.wave}"
    try:
        approval = decode_approval(event.evidence.encode())
    except DecodeError as error:
        yield f"{who} cannot be read: {error}"
        return
    yield from _differences(rollout, event, approval, who)
    operator = operators.get(event.judge)
    if operator is None:
        yield f"{who} is of no operator of the trust file"
        return
    if operator.role is not OperatorRole.OPERATE:
        yield f"{who} is of an operator with another role: expected operate, found {operator.role.value}"
    try:
        verify_approval(SignedApproval(approval, event.signature or ""), operator.public_key)
    except VerifyError as error:
        yield f"{who} was not signed by {event.judge}: {error}"


def _differences(rollout: _Rollout, event: Verdict, approval: Approval, who: str) -> Iterator[str]:
    guards = rollout.guards_of(event.wave)
    if event.signature in rollout.spent:
        yield f"{who} comes again after a clearance or another manifest, since which it counts no more"
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


def _warrant_problems(command: RelayWarrant, trust: TrustRoot, at: datetime) -> Iterator[str]:
    what = f"the warrant of {command.operator} for {command.rollout_id}"
    try:
        signed = decode_signed_warrant(command.warrant.encode())
        warrant = verify_warrant(signed, trust, at).warrant
    except (DecodeError, WarrantUnverified, VerifyError) as error:
        yield f"{what} is not good: {error}"
        return
    if warrant.operator != command.operator:
        yield f"{what} is of another operator: {warrant.operator}"
    if warrant.rollout_id != command.rollout_id:
        yield f"{what} is for another rollout: {warrant.rollout_id}"
