"""Checks every promise after every step, with the independent model. Raises `Broken` for the first that breaks.

Its inputs are what became durable, the answers that were sent, and the starts. It reads two things from an engine: the
records of the mirror, and the loaded state; it compares them with the hosts' journals and with the log.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import evolve

from nixfleet_agent.messages.inputs import Intent
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.transport import EventsOutcome
from nixfleet_simulation.judge.log.log_reader import LogReader
from nixfleet_simulation.judge.model.gates import differing
from nixfleet_simulation.judge.model.host_histories import HostHistories
from nixfleet_simulation.judge.model.identities import MintedTokens
from nixfleet_simulation.judge.model.leadership import LeadershipModel
from nixfleet_simulation.judge.model.lies import Lies
from nixfleet_simulation.judge.model.releases import Releases, Signing
from nixfleet_simulation.judge.model.requests import RequestModel
from nixfleet_simulation.judge.model.rollout_model import Moment
from nixfleet_simulation.judge.model.steering.guards import Statement
from nixfleet_simulation.judge.people.counts import OverviewJudge
from nixfleet_simulation.judge.people.delivery import DeliveryJudge
from nixfleet_simulation.judge.promises import Broken, Promise
from nixfleet_simulation.nodes.ci import LatestRelease
from nixfleet_simulation.nodes.control_plane import HandledInput
from nixfleet_simulation.nodes.host.process import HandledInput as HandledByHost
from nixfleet_simulation.nodes.host.process import KeptJournal, MachineSeen
from nixfleet_simulation.nodes.network import Answer
from nixfleet_simulation.nodes.signed_requests import Request, SendEvents, SignedRequest
from nixfleet_simulation.scenario.scenario import ChannelLayout
from nixfleet_state_machine.host.state import HostRolloutState

DECIDED_BEFORE_MAX: Final = timedelta(seconds=30)
"""How long before its answer a request may have been decided about: a slow disk writes for seconds."""

TAKEOVER_SECONDS: Final = 5.0
"""A lease of three seconds, two for what is asked of the store meanwhile."""


class Checker:
    """Checks a whole run."""

    def __init__(
        self,
        trust: Callable[[], TrustRoot],
        threshold_seconds: float,
        moment: Callable[[], Moment] = Moment,
    ) -> None:
        """moment: returns the true time, and how much the control plane's clock was set forward before."""
        self.releases = Releases()
        self.lies = Lies()
        self.minted = MintedTokens()
        self.requests = RequestModel()
        self.histories = HostHistories(self.releases, self.lies, threshold_seconds)
        self.leadership = LeadershipModel(TAKEOVER_SECONDS)
        self.statements: dict[str, Statement] = {}
        self._threshold_seconds = threshold_seconds
        self._moment = moment
        self.log = self._begun_log()
        self.ended: list[LogReader] = []
        self.overviews = OverviewJudge()
        self.deliveries = DeliveryJudge()
        self._trust = trust

    @property
    def checks(self) -> int:
        """The number of checks so far."""
        people = self.overviews.checks + self.deliveries.checks
        logs = sum(log.checks for log in (*self.ended, self.log))
        return logs + self.histories.checks + self.leadership.checks + people

    # CI.

    def released(
        self,
        layout: ChannelLayout,
        offer: LatestRelease,
        at: datetime,
        key: str,
        manifest: bytes,
        calendar: tuple[CalendarEntry, ...] = (),
    ) -> None:
        """CI signed a release."""
        self.releases.note(
            layout, offer.ref, offer.closures, offer.begins, Signing(at, key), manifest, calendar
        )

    # The control plane.

    def control_plane_kept(self, handled: Sequence[HandledInput], state: State) -> None:
        """These inputs were handled, in order, and their commits are durable."""
        self.log.moment = self._moment()
        for each in handled:
            self.log.take(each.input, each.commit.reply, each.commit.writes, each.at)
            self.deliveries.kept(row for row in each.commit.writes if isinstance(row, LogRow))
        self._compare_mirror(state)
        if handled:
            self.overviews.kept(state, self.log.rollouts, handled[-1].at)

    def _compare_mirror(self, state: State) -> None:
        for rollout_id, host in self.log.touched:
            mirrored = state.view.host(RolloutId(rollout_id), host)
            history = self.histories.by_host.get((rollout_id, host))
            if mirrored is None or history is None:
                continue
            if (rollout_id, host) in self.lies.followed:
                continue
            # Before its first fact a host has no record to mirror.
            journaled = history.records.get(mirrored.last_event_seq or -1)
            if journaled is not None and journaled != mirrored:
                # A soak that is taken over begins again on the host.
                has_other_times = (rollout_id, host) in self.lies.dispatched or (
                    history.taken_over_seq > 0
                    or self._has_times_of_another_attempt(rollout_id, host)
                )
                self._require_same(journaled, mirrored, has_other_times=has_other_times)
        self.log.touched.clear()

    def _has_times_of_another_attempt(self, rollout_id: str, host: str) -> bool:
        """Return whether a dispatch was ordered that the host has not taken, or taken when the log did not have it."""
        rollout = self.log.rollouts[rollout_id]
        model = rollout.hosts[host]
        # One that joined again has a dispatch of its own, and its journal the one before.
        return rollout.attempt(host) != model.attempt or host in rollout.joined

    def _require_same(
        self, journaled: HostRolloutState, mirrored: HostRolloutState, *, has_other_times: bool
    ) -> None:
        if has_other_times or mirrored.dispatched_at == mirrored.dispatch_acked_at:
            # By the clocks, the dispatch was made after its acknowledgement: it has the acknowledgement's times.
            # The times of a dispatch that was a lie are not in the log.
            journaled = evolve(
                journaled, dispatched_at=mirrored.dispatched_at, soak_due_at=mirrored.soak_due_at
            )
        if journaled != mirrored:
            found = f"expected {journaled}, found {mirrored}"
            raise Broken(Promise.MIRROR_IS_THE_HOST, found)

    def request_accepted(self, signed: SignedRequest, now: datetime) -> None:
        """A request was accepted as its host's."""
        self.log.answers.require_key_of(signed.hostname, signed.signed_with)
        objection = self.requests.objection(
            signed.number, signed.created, now, is_altered=signed.is_altered
        )
        if objection is not None:
            found = f"a request of {signed.hostname} is carried out: {objection}"
            raise Broken(Promise.REQUESTS, found)

    def enrollment_refused(self, request: EnrollRequest, at: datetime) -> None:
        """An enrollment was refused: the host must not be due one. at: by the control plane's clock."""
        self.log.checks += 1
        token, identities = request.token.token, self.log.identities
        # It was decided before it was answered.
        if all(
            identities.may_enroll(token, request.public_key, then)
            for then in (at, at - DECIDED_BEFORE_MAX)
        ):
            found = f"{token.hostname} has a good token and is turned away"
            raise Broken(Promise.ENROLLMENT, found)

    def answer_sent(self, hostname: str, request: Request, answer: Answer) -> None:
        """An answer is sent: the facts it acknowledges must be durable."""
        if isinstance(request, SendEvents) and isinstance(answer, EventsOutcome):
            self.log.answers.require_kept(hostname, request.envelopes[: answer.accepted])

    def lie_sent(self, hostname: str, answer: Answer) -> None:
        """A control plane that lies sends an answer."""
        self.lies.told(hostname, answer)

    def control_plane_started(self, state: State, at: datetime) -> None:
        """A control plane started and loaded `state`. at: by its clock."""
        self.requests.started(at)
        self.log.started()
        self._require_loaded(state)

    def _require_loaded(self, state: State) -> None:
        log = self.log
        log.checks += 1
        if state.head_seq != log.head:
            found = f"the log ended at row {log.head}; a start found {state.head_seq}"
            raise Broken(Promise.ACKNOWLEDGED_IS_KEPT, found)
        for rollout_id, rollout in log.rollouts.items():
            if rollout.due.state == "Pruned":
                continue
            record = state.view.rollouts[RolloutId(rollout_id)]
            if (record.state.value, record.current_wave) != (rollout.due.state, rollout.due.wave):
                found = f"{rollout_id} was {rollout.due}; a start found {record}"
                raise Broken(Promise.VIEWS_ARE_THE_LOG, found)
            for host, model in rollout.hosts.items():
                loaded = state.view.host(RolloutId(rollout_id), host)
                expected = model.state, model.last_seq
                if loaded is None or (loaded.state.value, loaded.last_event_seq) != expected:
                    found = f"{host} in {rollout_id} was {expected}; a start found {loaded}"
                    raise Broken(Promise.ACKNOWLEDGED_IS_KEPT, found)
                log.touched.add((rollout_id, host))
        self._compare_mirror(state)
        self._require_loaded_views(state)

    def _require_loaded_views(self, state: State) -> None:
        queued = {
            (dispatch.rollout_id, host)
            for host, waiting in state.dispatches.items()
            for dispatch in waiting
        }
        quarantined = differing(self.log.gates.quarantined, state.quarantines)
        if queued != self.log.views.dispatches:
            raise Broken(Promise.VIEWS_ARE_THE_LOG, f"a start found these dispatches: {queued}")
        if quarantined is not None:
            raise Broken(Promise.VIEWS_ARE_THE_LOG, f"a start found quarantines: {quarantined}")
        held = {
            (str(hold.scope), str(hold.source))
            for hold in state.view.holds
            if not hold.source.kind.is_derived
        }
        if held != self.log.gates.holds.keys():
            raise Broken(Promise.VIEWS_ARE_THE_LOG, f"a start found holds: {sorted(held)}")

    def database_lost(self) -> None:
        """The control plane's database is lost: its next log begins with row 1."""
        self.ended.append(self.log)
        self.deliveries.log_lost()
        self.log = self._begun_log()

    def _begun_log(self) -> LogReader:
        return LogReader(
            self.releases, self.lies, self.minted, self.statements, self._threshold_seconds
        )

    # Hosts.

    def agent_kept(
        self, hostname: str, handled: Sequence[HandledByHost], machine: MachineSeen
    ) -> None:
        """These inputs were handled, in order, and their commits are durable."""
        for each in handled:
            self.histories.take(hostname, each.commit.writes, machine, self._trust())

    def agent_started(self, hostname: str, expected: KeptJournal, found: KeptJournal) -> None:
        """An agent started: its journal must return what was durable."""
        self.histories.checks += 1
        if expected != found:
            text = f"{hostname} kept {expected}, and a start found {found}"
            raise Broken(Promise.JOURNAL, text)

    def intent_began(self, hostname: str, intent: Intent, running: str) -> None:
        """The machine begins to carry out an intent."""
        self.histories.act(hostname, intent)

    def disk_lost(self, hostname: str) -> None:
        """A host's journal is lost."""
        self.histories.lose(hostname)

    def engine_raised(self, who: str, input: object, error: Exception) -> None:
        """An engine raised on an input: a bug."""
        found = f"{who} on {input!r}: {error!r}"
        raise Broken(Promise.NO_ENGINE_FAILS, found) from error

    # The end.

    def require_history(self) -> None:
        """Check that the log has every fact that a host still has, of every rollout that the control plane knows."""
        for (rollout_id, host), history in self.histories.by_host.items():
            model = self.log.host_model(rollout_id, host)
            if (rollout_id, host) in self.lies.followed:
                continue
            if model is not None and model.last_seq != history.last_seq and history.last_seq:
                found = (
                    f"{host} has {history.last_seq} facts of {rollout_id}, the log {model.last_seq}"
                )
                raise Broken(Promise.HISTORY_SURVIVES, found)
