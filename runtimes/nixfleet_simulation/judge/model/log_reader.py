"""Reads every durable row of the control plane's log, and every answer, as they come.

It derives the model of every rollout from the facts alone, and compares the log's other rows, the views and the
answers with it. Raises `Broken` for the first difference.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias

import orjson

from nixfleet_control_plane.messages.inputs import (
    DispatchAnswer,
    DispatchPoll,
    HostEvents,
    Input,
    ManifestAnswer,
    Reply,
)
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import Write
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.transport import (
    EventEarly,
    EventRefused,
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    HostHeld,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
)
from nixfleet_simulation.judge.model.gates import Gates
from nixfleet_simulation.judge.model.host_model import HostModel, IllegalFact, Json
from nixfleet_simulation.judge.model.identities import IdentityModel, MintedTokens, token_of
from nixfleet_simulation.judge.model.lies import Lies
from nixfleet_simulation.judge.model.releases import Releases
from nixfleet_simulation.judge.model.rollout_model import RolloutModel
from nixfleet_simulation.judge.model.view_differences import first_difference
from nixfleet_simulation.judge.model.views import StoredViews
from nixfleet_simulation.judge.promises import Broken, Promise

HostKey: TypeAlias = tuple[str, str]
"""Rollout id, host."""

FACT: Final = "agent_event"


class LogReader:
    """The log of one control plane so far. touched: host records to compare."""

    def __init__(
        self, releases: Releases, lies: Lies, minted: MintedTokens, threshold_seconds: float
    ) -> None:
        self.checks = 0
        self.head = 0
        self.views = StoredViews()
        self.deferred: dict[HostKey, str] = {}
        self.touched: set[HostKey] = set()
        self._releases = releases
        self._lies = lies
        self._threshold_seconds = threshold_seconds
        self.identities = IdentityModel(minted)
        self.gates = Gates(self.identities.is_revoked)
        self._changed: dict[str, None] = {}
        self._all_may_have_changed = False

    @property
    def rollouts(self) -> dict[str, RolloutModel]:
        return self.gates.rollouts

    def host_model(self, rollout_id: str, host: str) -> HostModel | None:
        """Return the model of a host in a rollout that is open and not pruned, `None` otherwise."""
        rollout = self.rollouts.get(rollout_id)
        if rollout is None or rollout.due.state == "Pruned":
            return None
        return rollout.hosts.get(host)

    # One handled input.

    def take(self, input: Input, reply: Reply, writes: Sequence[Write]) -> None:
        """Check the commit of one input: its rows, its view writes, then its answer. Raises: Broken."""
        if writes:
            for write in writes:
                if isinstance(write, LogRow):
                    self._row(write)
                else:
                    self.views.apply(write)
            self._compare()
        if reply is not None:
            self._judge(input, reply)

    def _row(self, row: LogRow) -> None:
        self.checks += 1
        if row.seq != self.head + 1:
            raise Broken(Promise.VIEWS_ARE_THE_LOG, f"row {row.seq} follows row {self.head}")
        self.head = row.seq
        payload: Json = orjson.loads(row.payload)
        match row.kind:
            case "agent_event":
                self._fact(str(row.rollout_id), str(row.host_id), payload)
            case "rollout_event":
                self._event(row, payload)
            case "plan_action":
                self._plan(row, payload)
            case "gate_decision":
                self._changed[payload["rollout_id"]] = None
                self.deferred[payload["rollout_id"], payload["host"]] = payload["gate"]
            case "operator_command":
                self._command(payload)
            case "verify_outcome":
                if payload["kind"] == "ArtefactTaken":
                    self._artefact(row.rollout_id, payload)
                elif payload["kind"] == "HostEnrolled":
                    self._enrolled(payload, datetime.fromisoformat(row.ts))
                elif payload["kind"] == "IdentityForked":
                    self._forked(str(row.host_id), payload["reason"])
                elif payload["kind"] == "FactRefused":
                    self._refused(
                        str(row.rollout_id), str(row.host_id), orjson.loads(payload["fact"])
                    )
            case _:
                raise Broken(Promise.VIEWS_ARE_THE_LOG, f"row {row.seq} is a {row.kind!r}")

    # Rows.

    def _fact(self, rollout_id: str, host: str, fact: Json) -> None:
        model = self.host_model(rollout_id, host)
        if model is None:
            raise Broken(Promise.HOST_MACHINE, f"{host} is no host of {rollout_id}")
        rollout = self.rollouts[rollout_id]
        try:
            moved = model.take(fact)
        except IllegalFact as error:
            raise Broken(Promise.HOST_MACHINE, f"{host} in {rollout_id}: {error}") from None
        self.touched.add((rollout_id, host))
        model.is_queued = False
        self.deferred.pop((rollout_id, host), None)
        rollout.join()
        if moved:
            if model.state == "Reverted" and model.activated_at is not None:
                self._quarantined(rollout.layout.name).add(model.target)
            rollout.host_moved(host)
        self._changed[rollout_id] = None

    def _refused(self, rollout_id: str, host: str, fact: Json) -> None:
        """Take a fact that the log could not apply: only one that continues a lie, or follows one that did."""
        if (rollout_id, host) not in self._lies.followed:
            raise Broken(Promise.MIRROR_IS_THE_HOST, f"{host} in {rollout_id}: {fact} is refused")
        model = self.host_model(rollout_id, host)
        if model is not None:
            model.last_seq = fact["seq"]

    def _forked(self, host: str, reason: str) -> None:
        """Take the hold of a host that contradicts itself: only one that followed a lie does."""
        if not self._lies.has_followed(host):
            raise Broken(Promise.MIRROR_IS_THE_HOST, f"{host} is held: {reason}")
        self.gates.holds.add(f"host:{host}")
        self._all_may_have_changed = True

    def _event(self, row: LogRow, event: Json) -> None:
        rollout_id, at = str(row.rollout_id), datetime.fromisoformat(row.ts)
        rollout = self.rollouts.get(rollout_id)
        if rollout is None:
            raise Broken(Promise.ROLLOUT_MACHINE, f"{rollout_id} is not open")
        problem = rollout.apply_logged(event, at)
        if problem is not None:
            raise Broken(Promise.ROLLOUT_MACHINE, f"{rollout_id}: {problem}")
        if event["kind"] == "SuccessorOpened":
            rollout.supersede()
        elif event["kind"] == "OperatorClearance":
            rollout.clear(set(event["excused_hosts"]))
        if not rollout.is_live:
            self._drop_deferrals(rollout)
        if event["kind"] == "RetentionExpired":
            self.gates.holds.discard(rollout_id)
        self._changed[rollout_id] = None
        self._all_may_have_changed = True

    def _drop_deferrals(self, rollout: RolloutModel) -> None:
        for host in rollout.hosts:
            self.deferred.pop((rollout.rollout_id, host), None)

    def _plan(self, row: LogRow, action: Json) -> None:
        seq = row.seq
        rollout_id = action["rollout_id"]
        self._changed[rollout_id] = None
        if action["kind"] == "OpenRollout":
            self._open(rollout_id)
            return
        rollout, host = self.rollouts[rollout_id], action["host"]
        model = rollout.hosts[host]
        self.deferred.pop((rollout_id, host), None)
        if action["kind"] == "WithdrawDispatch":
            model.is_queued = False
            return
        gate = self.gates.first(rollout, host)
        if gate is not None:
            found = f"row {seq} dispatches {host} in {rollout_id}, and {gate} holds it"
            raise Broken(Promise.WITHIN_LIMITS, found)
        if model.is_queued or not model.is_unacknowledged:
            found = f"row {seq} dispatches {host} in {rollout_id}, which has its dispatch"
            raise Broken(Promise.PLANNER, found)
        if action["target_closure"] != model.target:
            found = f"row {seq} dispatches {action['target_closure']}, not {model.target}"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
        model.is_queued = True
        model.dispatched_at = model.dispatched_at or row.ts
        model.soak_due_at = model.soak_due_at or action["soak_due_at"]
        rollout.join()

    def _open(self, rollout_id: str) -> None:
        self._all_may_have_changed = True
        released = self._releases.find(rollout_id)
        if released is None:
            raise Broken(
                Promise.ONLY_WHAT_IS_SIGNED, f"{rollout_id} opens, and CI never released it"
            )
        if rollout_id in self.rollouts:
            raise Broken(Promise.PLANNER, f"{rollout_id} opens a second time")
        channel = released.layout.name
        for other in self.rollouts.values():
            if other.layout.name == channel and other.due.state not in ("Superseded", "Pruned"):
                found = f"{rollout_id} opens while {other.rollout_id} is {other.due.state}"
                raise Broken(Promise.ROLLOUT_MACHINE, found)
        hosts = {
            host: HostModel(closure, self._threshold_seconds)
            for host, closure in released.closures.items()
        }
        self.rollouts[rollout_id] = RolloutModel(rollout_id, released.layout, hosts)

    def _command(self, command: Json) -> None:
        self._all_may_have_changed = True
        match command["kind"]:
            case "PauseScope":
                self.gates.holds.add(command["scope"])
            case "ResumeScope":
                self.gates.holds.discard(command["scope"])
            case "RetireQuarantine":
                self._quarantined(command["channel"]).discard(command["closure"])
            case _:
                pass  # Whom a clearance excuses comes as an event.

    def _artefact(self, rollout_id: str | None, payload: Json) -> None:
        problem = self.identities.artefact_taken(payload["name"], orjson.loads(payload["body"]))
        if problem is not None:
            raise Broken(Promise.NOTHING_OLDER_IN_FORCE, problem)
        if rollout_id is None:
            return
        self._all_may_have_changed = True
        if payload["body"].encode() not in self._releases.manifests:
            found = f"a manifest of {rollout_id} is in force that CI did not sign"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
        self.gates.in_force[rollout_id.partition("@")[0]] = rollout_id

    def _enrolled(self, payload: Json, at: datetime) -> None:
        token = token_of(orjson.loads(payload["token"])["token"])
        problem = self.identities.enrolled(token, payload["public_key"], at)
        if problem is not None:
            raise Broken(Promise.ENROLLMENT, problem)
        # A machine that enrolls anew is not one of two any more.
        self.gates.holds.discard(f"host:{token.hostname}")
        self._all_may_have_changed = True

    def _quarantined(self, channel: str) -> set[str]:
        return self.gates.quarantined.setdefault(channel, set())

    def _is_held(self, host: str) -> bool:
        """Return whether `host` contradicted itself, and no operator resumed it."""
        return f"host:{host}" in self.gates.holds

    # After an input.

    def _compare(self) -> None:
        """Check that the logged rollout states are due, every waiting host is held by a gate, and the views agree."""
        changed = self.rollouts if self._all_may_have_changed else self._changed
        for rollout_id in changed:
            rollout = self.rollouts[rollout_id]
            self.checks += 1
            if rollout.logged != rollout.due:
                found = f"{rollout_id} should be {rollout.due}, and the log has {rollout.logged}"
                raise Broken(Promise.ROLLOUT_MACHINE, found)
            if rollout.is_live:
                self._require_reasons(rollout)
        self._changed = {}
        self._all_may_have_changed = False
        problem = first_difference(self.views, self.gates, self.deferred, self.head)
        if problem is not None:
            raise Broken(Promise.VIEWS_ARE_THE_LOG, problem)

    def _require_reasons(self, rollout: RolloutModel) -> None:
        for host, model in rollout.hosts.items():
            if not model.is_unacknowledged:
                continue
            self.checks += 1
            if model.is_queued:
                gate = self.gates.withdrawing(rollout, host)
                if gate is not None:
                    found = f"{host} keeps its dispatch in {rollout.rollout_id}, against {gate}"
                    raise Broken(Promise.WITHIN_LIMITS, found)
                continue
            gate = self.gates.first(rollout, host)
            logged_gate = self.deferred.get((rollout.rollout_id, host))
            if gate is None:
                found = f"{host} waits in {rollout.rollout_id} and nothing holds it"
                raise Broken(Promise.PLANNER, found)
            if gate != logged_gate:
                found = f"{host} waits in {rollout.rollout_id} for {gate}, and is reported {logged_gate}"
                raise Broken(Promise.PLANNER, found)

    # Answers.

    def _judge(self, input: Input, reply: Reply) -> None:
        match reply:
            case EventsOutcome():
                assert isinstance(input, HostEvents), input
                self._judge_events(input, reply)
            case DispatchAnswer():
                assert isinstance(input, DispatchPoll), input
                self._judge_dispatch(input.hostname, reply)
            case ManifestAnswer():
                if (
                    reply.artefact is not None
                    and reply.artefact.body not in self._releases.manifests
                ):
                    raise Broken(
                        Promise.ONLY_WHAT_IS_SIGNED, "a manifest is handed out that CI did not sign"
                    )
            case HeartbeatReply():
                assert isinstance(input, Heartbeat), input
                self._judge_heartbeat(input, reply)
            case _:
                pass

    def _judge_events(self, input: HostEvents, reply: EventsOutcome) -> None:
        self.require_kept(input.hostname, input.envelopes[: reply.accepted])
        refusal = reply.stopped_by
        if refusal is None:
            return
        envelope = input.envelopes[reply.accepted]
        model = self.host_model(envelope.rollout_id, input.hostname)
        follows_a_lie = (envelope.rollout_id, input.hostname) in self._lies.followed
        match refusal:
            case ReplayFrom():
                if model is None or refusal.first_missing_seq != model.last_seq + 1:
                    found = f"{_named(input.hostname, envelope)} is answered with {refusal}"
                    raise Broken(Promise.ACKNOWLEDGED_IS_KEPT, found)
            case RolloutUnknown():
                if model is not None:
                    found = (
                        f"{_named(input.hostname, envelope)} is unknown, and its rollout is open"
                    )
                    raise Broken(Promise.ACKNOWLEDGED_IS_KEPT, found)
            case EventEarly():
                pass  # Nothing is lost and nothing marked: the host sends it again.
            case HostHeld() if self._is_held(input.hostname):
                pass
            case HostHeld():
                found = f"{_named(input.hostname, envelope)} was lived, and its host is held"
                raise Broken(Promise.MIRROR_IS_THE_HOST, found)
            case SeqForked() | EventRefused() if follows_a_lie:
                pass
            case SeqForked():
                found = f"{_named(input.hostname, envelope)} was lived, and another has its number"
                raise Broken(Promise.MIRROR_IS_THE_HOST, found)
            case EventRefused():
                if (envelope.rollout_id, input.hostname) in self._lies.followed:
                    return
                found = f"{_named(input.hostname, envelope)} is in the journal, and is refused: {refusal.reason}"
                raise Broken(Promise.MIRROR_IS_THE_HOST, found)

    def require_key_of(self, host: str, key: str) -> None:
        """Check that `key` speaks for the host. Raises: Broken."""
        self.checks += 1
        if self.identities.key_of(host) != key:
            found = f"{host} is listened to, and the key that signed does not speak for it"
            raise Broken(Promise.REQUESTS, found)

    def require_kept(self, host: str, acknowledged: Sequence[AgentEventEnvelope]) -> None:
        """Check that every acknowledged fact is in the log. Raises: Broken."""
        for envelope in acknowledged:
            self.checks += 1
            model = self.host_model(envelope.rollout_id, host)
            if model is None or model.last_seq < envelope.event.seq:
                found = f"{_named(host, envelope)} is acknowledged and not in the log"
                raise Broken(Promise.ACKNOWLEDGED_IS_KEPT, found)

    def _judge_dispatch(self, host: str, reply: DispatchAnswer) -> None:
        self.checks += 1
        queued = [
            rollout
            for rollout in self.rollouts.values()
            if host in rollout.hosts and rollout.hosts[host].is_queued
        ]
        if reply.dispatch is None:
            if queued:
                found = f"{host} gets no dispatch, although one of {queued[0].rollout_id} is queued"
                raise Broken(Promise.EVERYTHING_RESTS, found)
            return
        dispatch = reply.dispatch
        rollout = self.rollouts.get(dispatch.rollout_id)
        if rollout is None or rollout not in queued:
            found = f"{host} is handed a dispatch of {dispatch.rollout_id}, and none is queued"
            raise Broken(Promise.WITHIN_LIMITS, found)
        gate = self.gates.withdrawing(rollout, host)
        if gate is not None or dispatch.target_closure != rollout.hosts[host].target:
            found = f"{host} is handed {dispatch.target_closure}, against {gate}"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)

    def _judge_heartbeat(self, beat: Heartbeat, reply: HeartbeatReply) -> None:
        self.checks += 1
        if self._is_held(beat.hostname):
            return  # Which of two machines asks is not known, so neither record is offered.
        ahead = {record.rollout_id for record in reply.bootstrap_rollouts}
        behind = {replay.rollout_id: replay.first_missing_seq for replay in reply.replay_from}
        for rollout_id, rollout in self.rollouts.items():
            model = self.host_model(rollout_id, beat.hostname)
            if model is None:
                continue
            reported = beat.last_seqs.get(rollout_id, 0)
            should = model.last_seq > reported and rollout.due.state != "Superseded"
            if should is not (rollout_id in ahead):
                found = (
                    f"{beat.hostname} is at {reported} of {model.last_seq} in {rollout_id}: {reply}"
                )
                raise Broken(Promise.MIRROR_IS_THE_HOST, found)
            if (behind.get(rollout_id) == model.last_seq + 1) is not (model.last_seq < reported):
                found = (
                    f"{beat.hostname} is at {reported} of {model.last_seq} in {rollout_id}: {reply}"
                )
                raise Broken(Promise.HISTORY_SURVIVES, found)


def _named(host: str, envelope: AgentEventEnvelope) -> str:
    kind = type(envelope.event).__name__
    return f"fact {envelope.event.seq} ({kind}) of {host} in {envelope.rollout_id}"
