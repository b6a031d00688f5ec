"""A control plane that lies: it says everything to hosts that needs no key.

It holds all that CI ever signed, all records of the honest control plane and all dispatches that it ever sent
(Dolev and Yao): it replays, reorders, mixes, withholds and makes up. It cannot sign.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final, assert_never

from attrs import evolve

from nixfleet_control_plane.messages.inputs import DispatchAnswer, ManifestAnswer
from nixfleet_proto.agent_event import Converged, ProbeMode, ProbeStatus
from nixfleet_proto.codec import decode_manifest
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.steering.warrant import SignedWarrant
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.http.signing.key_id import host_key_id
from nixfleet_runtime.http.signing.refusal import UnknownKey
from nixfleet_runtime.transport import (
    EventRefused,
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    ReplayFrom,
    RolloutUnknown,
)
from nixfleet_simulation.nodes.agenda import Agenda
from nixfleet_simulation.nodes.ci import ReleaseDirectory
from nixfleet_simulation.nodes.network import Answer, Call, Enrolled
from nixfleet_simulation.nodes.signed_requests import (
    AskDispatch,
    FetchManifest,
    Request,
    SendEvents,
)
from nixfleet_simulation.scenario.randomness import Seed, stream
from nixfleet_simulation.scenario.scenario import ChannelLayout
from nixfleet_state_machine.host.state import HostRolloutState, HostState, ProbeRecord
from nixfleet_state_machine.planner.index.fleet_view import FleetView

SEQ_MAX: Final = 2**63 - 1
DAY: Final = timedelta(days=1)
EVIL: Final = "evil"
SILENT_SHARE: Final = 0.1
"""The share of requests that get no answer."""


class LyingControlPlane:
    """Answers in the place of the control plane while `reigns` is not 0: the number of takeovers under way.

    view: returns the records of the honest control plane. lie_sent: called with every answer.
    """

    def __init__(
        self,
        agenda: Agenda,
        seed: Seed,
        channels: tuple[ChannelLayout, ...],
        ci: ReleaseDirectory,
        view: Callable[[], FleetView],
        lie_sent: Callable[[str, Request, Answer], None],
    ) -> None:
        self.reigns = 0
        self._agenda = agenda
        self._rng = stream(seed, "liar")
        self._channel_of = {host: channel for channel in channels for host in channel.hosts}
        self._ci = ci
        self._view = view
        self._lie_sent = lie_sent
        self._heard: dict[str, list[Dispatch]] = {}
        self._decoded: dict[str, RolloutManifest] = {}
        self._new: set[str] = set()

    def overhear(self, answer: Answer) -> Answer:
        """Remember the dispatches of the honest control plane, and return its answer as it is."""
        if isinstance(answer, DispatchAnswer) and answer.dispatch is not None:
            heard = self._heard.setdefault(answer.dispatch.hostname, [])
            if answer.dispatch not in heard:
                heard.append(answer.dispatch)
        return answer

    def receive(self, call: Call) -> None:
        """Answer a request, or leave it without an answer."""
        if self._rng.random() < SILENT_SHARE:
            return
        answer = self._answer(call.hostname, call.request)
        if answer is None:
            if self._rng.random() < 0.3:
                call.refuse(UnknownKey(host_key_id(call.hostname)).as_problem())
            else:
                call.fail(500, "no reason", self._rng.choice((None, 1.0, 3600.0)))
            return
        is_poll = isinstance(answer, DispatchAnswer) and answer.dispatch is None
        wait = call.request.wait if isinstance(call.request, AskDispatch) and is_poll else 0
        self._agenda.after(wait, None, self._send, call, answer)

    def _send(self, call: Call, answer: Answer) -> None:
        self._lie_sent(call.hostname, call.request, answer)
        call.answer(answer)

    def _answer(self, hostname: str, request: Request) -> Answer | None:
        if self._rng.random() < SILENT_SHARE:
            return None
        match request:
            case SendEvents():
                return self._events(request)
            case AskDispatch():
                return DispatchAnswer(self._dispatch(hostname))
            case FetchManifest():
                return self._manifest(request.rollout_id)
            case Heartbeat():
                return self._heartbeat(request)
            case EnrollRequest():
                return Enrolled()
            case _:
                assert_never(request)

    # Dispatches: of any release that ever named the host, with any times.

    def _dispatch(self, hostname: str) -> Dispatch | None:
        if hostname in self._new and self._rng.random() < 0.7:
            return None  # A host with a new journal believes more before its first dispatch.
        heard = self._heard.get(hostname, [])
        if heard and self._rng.random() < 0.2:
            return self._rng.choice(heard)
        rollout_id = self._rollout(hostname)
        if rollout_id is None or self._rng.random() < 0.2:
            return None
        closure = self._closure(rollout_id, hostname)
        soak = timedelta(minutes=self._channel_of[hostname].soak_minutes)
        window = self._rng.choice((soak, soak, soak, soak / 2, timedelta(), -soak, soak + DAY))
        began = self._now() + self._rng.choice((timedelta(), timedelta(), -DAY, -DAY, DAY))
        addressee = self._rng.choice((hostname, hostname, hostname, "nobody"))
        return Dispatch(addressee, rollout_id, closure, began + window, began)

    def _rollout(self, hostname: str) -> RolloutId | None:
        """Return a release of the host's channel: the newest, or any older one."""
        channel = self._channel_of[hostname].name
        of_channel = [name for name in self._ci.every_manifest if name.startswith(f"{channel}@")]
        if not of_channel:
            return None
        name = of_channel[-1] if self._rng.random() < 0.5 else self._rng.choice(of_channel)
        return RolloutId(name)

    def _closure(self, rollout_id: RolloutId, hostname: str) -> str:
        targets = [each.target_closure for each in self._read(rollout_id).host_set]
        if self._rng.random() < 0.1:
            return self._rng.choice((EVIL, *targets))
        return self._read(rollout_id).target_of(hostname) or EVIL

    def _read(self, rollout_id: RolloutId) -> RolloutManifest:
        known = self._decoded.get(rollout_id)
        if known is None:
            body = self._ci.every_manifest[rollout_id][-1].body
            known = self._decoded[rollout_id] = decode_manifest(body)
        return known

    # Manifests: every one that was signed, and altered ones.

    def _manifest(self, rollout_id: str) -> ManifestAnswer:
        signed = self._ci.every_manifest.get(rollout_id)
        lie = self._rng.random()
        if signed is None or lie < 0.1:
            return ManifestAnswer(None)
        if lie < 0.2:
            return ManifestAnswer(self._ci.forged_manifest(signed[-1]))
        if lie < 0.3:
            other = self._rng.choice(list(self._ci.every_manifest.values()))
            return ManifestAnswer(self._rng.choice(other))
        return ManifestAnswer(signed[-1] if lie < 0.8 else self._rng.choice(signed))

    # Facts: acknowledged and dropped, refused, asked for again, not known.

    def _events(self, request: SendEvents) -> EventsOutcome:
        envelopes = request.envelopes
        accepted = self._rng.randrange(len(envelopes) + 1)
        if accepted == len(envelopes) or self._rng.random() < 0.5:
            return EventsOutcome(len(envelopes))
        stopped = envelopes[accepted]
        lie = self._rng.random()
        if lie < 0.4:
            return EventsOutcome(accepted, RolloutUnknown(stopped.rollout_id))
        if lie < 0.6:
            return EventsOutcome(accepted, ReplayFrom(stopped.rollout_id, self._seq()))
        if isinstance(stopped.event, Converged):
            return EventsOutcome(accepted, RolloutUnknown(stopped.rollout_id))
        refusal = EventRefused(stopped.rollout_id, stopped.event.seq, "it does not apply")
        return EventsOutcome(accepted, refusal)

    # Heartbeats: records in every state, and replays of anything.

    def _heartbeat(self, beat: Heartbeat) -> HeartbeatReply:
        if beat.last_seqs:
            self._new.discard(beat.hostname)
        else:
            self._new.add(beat.hostname)
        records = tuple(
            self._record(beat.hostname, rollout_id)
            for _ in range(2 if not beat.last_seqs else self._rng.randrange(3))
            if (rollout_id := self._rollout_of_record(beat)) is not None
        )
        replays = tuple(
            ReplayFrom(rollout_id, self._seq())
            for rollout_id in sorted(beat.last_seqs)
            if self._rng.random() < 0.3
        )
        return HeartbeatReply(
            self._now(), records, replays, warrants=tuple(self._warrants(beat.hostname))
        )

    def _warrants(self, hostname: str) -> Iterator[SignedWarrant]:
        """Yield orders that were given, to whomever and whenever, and some that were not."""
        if not self._ci.warrants:
            return
        for _ in range(2):
            rollout_id = self._rollout(hostname)
            if rollout_id is None or self._rng.random() < 0.4:
                yield self._rng.choice(self._ci.warrants)
            else:
                yield self._ci.forged_warrant(self._rng, rollout_id, hostname)

    def _rollout_of_record(self, beat: Heartbeat) -> RolloutId | None:
        """Return the newest release of what the host runs, of which most can be made up; or any other."""
        running = [
            name
            for name in self._ci.every_manifest
            if self._read(RolloutId(name)).target_of(beat.hostname) == beat.current_closure
        ]
        if running and self._rng.random() < 0.5:
            return RolloutId(running[-1])
        return self._rollout(beat.hostname)

    def _record(self, hostname: str, rollout_id: RolloutId) -> HostRolloutState:
        """Return a record of the host: the honest one, or one that was made up."""
        honest = self._view().host(rollout_id, hostname)
        if honest is not None and self._rng.random() < 0.2:
            return honest
        soak = timedelta(minutes=self._channel_of[hostname].soak_minutes)
        long_ago = self._now() - DAY
        closure = self._closure(rollout_id, hostname)
        channel = self._channel_of[hostname].name
        record = HostRolloutState.pending(
            rollout_id, hostname, channel, closure, long_ago, long_ago + soak
        )
        state = self._rng.choice((*HostState, HostState.SOAKING, HostState.SOAKING))
        return evolve(
            record,
            state=state,
            last_event_seq=self._seq(honest),
            current_closure=closure,
            current_closure_at_dispatch=EVIL,
            dispatch_acked_at=long_ago,
            activation_completed_at=self._rng.choice((None, long_ago, self._now() + DAY)),
            declared_probes=self._rng.choice((None, ())),
            probes=self._rng.choice((FrozenMap[str, ProbeRecord](), _passed(long_ago))),
        )

    def _seq(self, honest: HostRolloutState | None = None) -> int:
        known = 0 if honest is None else honest.last_event_seq
        small = self._rng.randrange(1, 40)
        return self._rng.choice((1, known, known + 1, small, known + 1_000, 2**31, SEQ_MAX))

    def _now(self) -> datetime:
        return self._agenda.time


def _passed(at: datetime) -> FrozenMap[str, ProbeRecord]:
    return FrozenMap({"alive": ProbeRecord(ProbeStatus.PASS, ProbeMode.ENFORCE, at, at)})
