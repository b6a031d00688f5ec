"""Judges the answers of a control plane by its log: nothing is acknowledged or handed out that is not durable there.

Raises `Broken` for the first that is wrong.
"""

from collections.abc import Sequence

from nixfleet_control_plane.messages.inputs import (
    DispatchAnswer,
    DispatchPoll,
    HostEvents,
    Input,
    ManifestAnswer,
    Reply,
)
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
from nixfleet_simulation.judge.log.read_log import ReadLog
from nixfleet_simulation.judge.model.rollout_model import RolloutModel
from nixfleet_simulation.judge.promises import Broken, Promise


class Answers:
    """The judge of answers."""

    def __init__(self, log: ReadLog) -> None:
        self._log = log

    def judge(self, input: Input, reply: Reply, waited: Sequence[RolloutModel]) -> None:
        match reply:
            case EventsOutcome():
                assert isinstance(input, HostEvents), input
                self._judge_events(input, reply)
            case DispatchAnswer():
                assert isinstance(input, DispatchPoll), input
                self._judge_dispatch(input.hostname, reply, waited)
            case ManifestAnswer():
                if (
                    reply.artefact is not None
                    and reply.artefact.body not in self._log.releases.manifests
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
        model = self._log.host_model(envelope.rollout_id, input.hostname)
        follows_a_lie = (envelope.rollout_id, input.hostname) in self._log.lies.followed
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
            case HostHeld() if self._log.is_held_as_forked(input.hostname):
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
                if (envelope.rollout_id, input.hostname) in self._log.lies.followed:
                    return
                found = f"{_named(input.hostname, envelope)} is in the journal, and is refused: {refusal.reason}"
                raise Broken(Promise.MIRROR_IS_THE_HOST, found)

    def require_key_of(self, host: str, key: str) -> None:
        """Check that `key` speaks for the host. Raises: Broken."""
        self._log.checks += 1
        if self._log.identities.key_of(host) != key:
            found = f"{host} is listened to, and the key that signed does not speak for it"
            raise Broken(Promise.REQUESTS, found)

    def require_kept(self, host: str, acknowledged: Sequence[AgentEventEnvelope]) -> None:
        """Check that every acknowledged fact is in the log. Raises: Broken."""
        for envelope in acknowledged:
            self._log.checks += 1
            model = self._log.host_model(envelope.rollout_id, host)
            if model is None or model.last_seq < envelope.event.seq:
                found = f"{_named(host, envelope)} is acknowledged and not in the log"
                raise Broken(Promise.ACKNOWLEDGED_IS_KEPT, found)

    def _judge_dispatch(
        self, host: str, reply: DispatchAnswer, waited: Sequence[RolloutModel]
    ) -> None:
        """waited: the rollouts that had a dispatch queued for the host before the poll."""
        self._log.checks += 1
        queued = self._log.queued_for(host)
        if reply.dispatch is None:
            kept = [rollout.rollout_id for rollout in queued if rollout in waited]
            if kept:
                found = f"{host} gets no dispatch, although one of {kept[0]} is queued"
                raise Broken(Promise.EVERYTHING_RESTS, found)
            return
        dispatch = reply.dispatch
        rollout = self._log.rollouts.get(dispatch.rollout_id)
        if rollout is None or rollout not in queued:
            found = f"{host} is handed a dispatch of {dispatch.rollout_id}, and none is queued"
            raise Broken(Promise.WITHIN_LIMITS, found)
        gate = self._log.gates.withdrawing(rollout, host)
        if gate is not None or dispatch.target_closure != rollout.hosts[host].target:
            found = f"{host} is handed {dispatch.target_closure}, against {gate}"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)

    def _judge_heartbeat(self, beat: Heartbeat, reply: HeartbeatReply) -> None:
        self._log.checks += 1
        if self._log.is_held_as_forked(beat.hostname):
            return  # Which of two machines asks is not known, so neither record is offered.
        ahead = {record.rollout_id for record in reply.bootstrap_rollouts}
        behind = {replay.rollout_id: replay.first_missing_seq for replay in reply.replay_from}
        for rollout_id, rollout in self._log.rollouts.items():
            model = self._log.host_model(rollout_id, beat.hostname)
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
