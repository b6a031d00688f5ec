"""Reads every durable row of the control plane's log, as they come.

It derives the model of every rollout from the facts alone, and compares the other rows and the views with it.
Raises `Broken` for the first difference.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256

import orjson

from nixfleet_control_plane.messages.inputs import (
    DispatchPoll,
    HostEvents,
    Input,
    PlanTick,
    Reply,
)
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import Write
from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_runtime.transport import (
    Heartbeat,
)
from nixfleet_simulation.judge.log.answers import Answers
from nixfleet_simulation.judge.log.event_rules import EventRules
from nixfleet_simulation.judge.log.read_log import ReadLog
from nixfleet_simulation.judge.log.view_differences import first_difference
from nixfleet_simulation.judge.model.dues import (
    has_consequence,
)
from nixfleet_simulation.judge.model.gates import is_by_calendar
from nixfleet_simulation.judge.model.host_model import HostModel, IllegalFact, Json
from nixfleet_simulation.judge.model.identities import MintedTokens, token_of
from nixfleet_simulation.judge.model.lies import Lies
from nixfleet_simulation.judge.model.releases import Released, Releases
from nixfleet_simulation.judge.model.rollout_model import SERVED, RolloutModel
from nixfleet_simulation.judge.model.steering.guards import Statement
from nixfleet_simulation.judge.model.verdicts import SILENT, allowed
from nixfleet_simulation.judge.promises import Broken, Promise
from nixfleet_simulation.scenario.scenario import PolicyLayout


class LogReader(ReadLog):
    """Reads the log of one control plane. answers: the judge of its answers."""

    def __init__(
        self,
        releases: Releases,
        lies: Lies,
        minted: MintedTokens,
        statements: Mapping[str, Statement],
        threshold_seconds: float,
    ) -> None:
        super().__init__(releases, lies, minted, statements)
        self.answers = Answers(self)
        self._rules = EventRules(self)
        self._threshold_seconds = threshold_seconds
        self._changed: dict[str, None] = {}
        self._all_may_have_changed = False

    # One handled input.

    def take(self, input: Input, reply: Reply, writes: Sequence[Write], now: datetime) -> None:
        """Check the commit of one input that was handled at `now`: its rows, its view writes, then its answer.

        Raises: Broken.
        """
        self.input, self.now = input, now
        self.gates.now = now
        self._hear(input, writes)
        # A poll is answered before the plan: what its own time made due is handed out at the next one.
        waited = self.queued_for(input.hostname) if isinstance(input, DispatchPoll) else []
        if writes or self._changed:
            for write in writes:
                if isinstance(write, LogRow):
                    self._row(write)
                else:
                    self.views.apply(write)
            self._compare()
        if isinstance(input, PlanTick):
            self._rules.require_nothing_due()
        if reply is not None:
            self.answers.judge(input, reply, waited)

    def started(self) -> None:
        """The control plane started: it has heard of nobody yet."""
        self.last_heard = {}

    def _hear(self, input: Input, writes: Sequence[Write]) -> None:
        """Note that a host was heard of; a heartbeat gives back one that does not act."""
        if not isinstance(input, Heartbeat | DispatchPoll | HostEvents):
            return
        contradicts = any(
            isinstance(write, LogRow) and write.kind == "identity_forked" for write in writes
        )
        if isinstance(input, Heartbeat) and (contradicts or self.is_held_as_forked(input.hostname)):
            return
        self.last_heard[input.hostname] = self.now
        if not isinstance(input, Heartbeat):
            return
        for rollout_id, rollout in self.rollouts.items():
            before = rollout.standings.get(input.hostname)
            if before is not None:
                rollout.heard(input.hostname)
                if rollout.standings.get(input.hostname) != before:
                    self._changed[rollout_id] = None

    def _is_held_as_forked(self, host: str) -> bool:
        return (f"host:{host}", "contradiction") in self.gates.holds

    def _row(self, row: LogRow) -> None:
        self.checks += 1
        if row.seq != self.head + 1:
            raise Broken(Promise.VIEWS_ARE_THE_LOG, f"row {row.seq} follows row {self.head}")
        self.head = row.seq
        payload: Json = orjson.loads(row.payload)
        match row.kind:
            case "agent_events" | "fact_refused":
                self._reported(row, payload)
            case "rollout_event":
                self._event(row, payload)
            case "plan_action":
                self._plan(row, payload)
            case "gate_decision" if payload["kind"] == "SlotsReturned":
                self._slots_returned(row, payload)
            case "gate_decision" if payload["kind"] == "ChannelSeen":
                pass  # What other logs say is judged beside them.
            case "gate_decision" if payload["kind"].startswith("Hold"):
                self._hold_event(payload, datetime.fromisoformat(row.ts))
            case "gate_decision":
                self._changed[payload["rollout_id"]] = None
                self.deferred[payload["rollout_id"], payload["host"]] = payload["gate"]
            case "operator_command":
                self._command(payload)
            case "artefact_accepted":
                self._artefact(row.rollout_id, payload)
            case "artefact_refused":
                pass
            case "host_enrolled" if payload["kind"] == "EnrollmentSeen":
                pass  # Of the log with the identities.
            case "host_enrolled":
                self._enrolled(payload, datetime.fromisoformat(row.ts))
            case "identity_forked":
                self._forked(str(row.host_id), payload["reason"])
            case _:
                raise Broken(Promise.VIEWS_ARE_THE_LOG, f"row {row.seq} is a {row.kind!r}")

    # Rows.

    def _reported(self, row: LogRow, payload: Json) -> None:
        """Take the facts that a row decides, in order. All of them are in what was said, and each once."""
        first, count = row.first_fact_seq, row.fact_count
        assert first is not None, row
        assert count is not None, row
        refused = orjson.loads(row.outcome or "{}").get("refused", {})
        said: dict[int, Json] = {}
        for envelope in payload.get("events", [payload]):
            if (envelope["hostname"], envelope["rolloutId"]) != (row.host_id, row.rollout_id):
                raise Broken(Promise.VIEWS_ARE_THE_LOG, f"row {row.seq} is of another host")
            said.setdefault(envelope["event"]["seq"], envelope["event"])
        for seq in range(first, first + count):
            if seq not in said:
                raise Broken(Promise.VIEWS_ARE_THE_LOG, f"row {row.seq} has no fact {seq}")
            take = self._refused if str(seq) in refused else self._fact
            take(str(row.rollout_id), str(row.host_id), said[seq])

    def _fact(self, rollout_id: str, host: str, fact: Json) -> None:
        model = self.host_model(rollout_id, host)
        if model is None:
            raise Broken(Promise.HOST_MACHINE, f"{host} is no host of {rollout_id}")
        rollout = self.rollouts[rollout_id]
        was_pending = model.state == "Pending"
        try:
            moved = model.take(fact)
        except IllegalFact as error:
            raise Broken(Promise.HOST_MACHINE, f"{host} in {rollout_id}: {error}") from None
        self.touched.add((rollout_id, host))
        if was_pending or fact["kind"] == "DispatchAck":
            model.is_queued = False
            self.deferred.pop((rollout_id, host), None)
        rollout.give_back(host)
        # Others went on without a host that may fail now: no bound was computed for that.
        rollout.is_unbounded |= fact["kind"] in (
            "Regressed",
            "ActivationDeferred",
            "Recalled",
        )
        # Nor for a dispatch that a liar made, while the planner waited.
        rollout.is_unbounded |= (rollout_id, host) in self.lies.dispatched
        if moved:
            rollout.join()
            if model.blames_target:
                self._revert(rollout, host)
            rollout.host_moved(host)
            self._require_bounded(rollout)
        self._changed[rollout_id] = None
        self._all_may_have_changed |= moved and rollout.layout.policy != PolicyLayout()

    def _revert(self, rollout: RolloutModel, host: str) -> None:
        """Bar the closure that a host ran, failed on and left: where none may fail, or once a wave is broken."""
        counts = rollout.standing(host) not in ("late", "left")
        if counts and (rollout.was_broken or not rollout.is_tolerant_of(host)):
            self._quarantined(rollout.layout.name).add(rollout.hosts[host].target)

    def _require_bounded(self, rollout: RolloutModel) -> None:
        """Check that no more hosts failed than what was signed allows, and were in flight."""
        self.checks += 1
        failed, worst = rollout.failed_hosts(), rollout.worst_failed()
        if failed > worst and not (rollout.was_interfered or rollout.is_unbounded):
            found = f"{failed} hosts of {rollout.rollout_id} failed, and at most {worst} can"
            raise Broken(Promise.TOLERANCE, found)

    def _refused(self, rollout_id: str, host: str, fact: Json) -> None:
        """Take a fact that the log could not apply: only one that continues a lie, or follows one that did."""
        if fact["kind"] == "Converged":
            self.lies.note_refused_convergence(rollout_id, host)
        if (rollout_id, host) not in self.lies.followed:
            raise Broken(Promise.MIRROR_IS_THE_HOST, f"{host} in {rollout_id}: {fact} is refused")
        model = self.host_model(rollout_id, host)
        if model is not None:
            model.last_seq = fact["seq"]

    def _forked(self, host: str, reason: str) -> None:
        """Take the hold of a host that contradicts itself: only one that followed a lie does."""
        if not self.lies.has_followed(host):
            raise Broken(Promise.MIRROR_IS_THE_HOST, f"{host} is held: {reason}")
        self.gates.holds[f"host:{host}", "contradiction"] = None
        self._all_may_have_changed = True

    def _event(self, row: LogRow, event: Json) -> None:
        rollout_id, at = str(row.rollout_id), datetime.fromisoformat(row.ts)
        rollout = self.rollouts.get(rollout_id)
        if rollout is None:
            raise Broken(Promise.ROLLOUT_MACHINE, f"{rollout_id} is not open")
        self._rules.require_legal(rollout, event)
        was_live = rollout.logged.state != "Terminal"
        problem = rollout.apply_logged(event, at)
        if problem is not None:
            raise Broken(Promise.ROLLOUT_MACHINE, f"{rollout_id}: {problem}")
        match event["kind"]:
            case "SuccessorOpened":
                rollout.supersede()
            case "OperatorClearance":
                rollout.clear(set(event["excused_hosts"]))
            case "RolloutAborted":
                rollout.abort()
            case "WaveBroken":
                self._wave_broke(rollout, event)
            case "HostsLapsed":
                self._lapsed(rollout, event)
            case "StandingChanged":
                self._stands_otherwise(rollout, event)
            case "MembersChanged":
                self._amend(rollout)
            case "GuardsOpened":
                rollout.asked_moment = self.moment
            case "Verdict":
                rollout.hear(event)
            case _:
                pass
        if rollout.logged.state not in SERVED or (was_live and rollout.logged.state == "Terminal"):
            self._drop_deferrals(rollout)
        if event["kind"] == "RetentionExpired":
            self.gates.forget_rollout(rollout_id)
        self._changed[rollout_id] = None
        self._all_may_have_changed = True

    def _lapsed(self, rollout: RolloutModel, event: Json) -> None:
        for host in event["hosts"]:
            rollout.set_standing(host, event["standing"])
        if event.get("withdraws", False):
            self._withdraw(rollout, event["hosts"])
        rollout.counts_for_less(event["hosts"])
        rollout.advance()

    def _stands_otherwise(self, rollout: RolloutModel, event: Json) -> None:
        standing = event["standing"]
        if standing not in ("excused", "away", "skipped"):
            return  # Due by what the host did; it is compared after the input.
        for host in event["hosts"]:
            rollout.set_standing(host, standing)
        if standing in SILENT:
            self._withdraw(rollout, event["hosts"])
        rollout.counts_for_less(event["hosts"])
        rollout.advance()

    def _withdraw(self, rollout: RolloutModel, hosts: Sequence[str]) -> None:
        for host in hosts:
            rollout.hosts[host].is_queued = False
            self.deferred.pop((rollout.rollout_id, host), None)

    def _wave_broke(self, rollout: RolloutModel, event: Json) -> None:
        wave = event["wave"]
        if event.get("reason"):
            if not rollout.is_broken_by_guards() and not rollout.was_broken:
                found = f"wave {wave} of {rollout.rollout_id} breaks by {event['reason']}"
                raise Broken(Promise.STEERING, found)
            return
        counted = rollout.count_of(wave)
        expected = counted.failed, allowed(rollout.layout, wave), counted.absent
        if (event["failed"], event["allowed"], event["absent"]) != expected:
            found = f"wave {wave} of {rollout.rollout_id} breaks with {event}, and it is {counted}"
            raise Broken(Promise.TOLERANCE, found)
        rollout.was_broken = True
        for host, model in rollout.hosts.items():
            if model.blames_target:
                self._revert(rollout, host)

    def _drop_deferrals(self, rollout: RolloutModel) -> None:
        for host in rollout.hosts:
            self.deferred.pop((rollout.rollout_id, host), None)

    def _slots_returned(self, row: LogRow, event: Json) -> None:
        self._all_may_have_changed = True
        name, begun_by = event["budget"].removeprefix("tags:"), event["begun_by"]
        now = datetime.fromisoformat(row.ts)
        found = self.gates.minutes.returned(
            name, datetime.fromisoformat(begun_by), event["count"], now
        )
        if found is not None:
            raise Broken(Promise.WITHIN_LIMITS, f"row {row.seq}: {found}")

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
            raise Broken(_promise_of(gate), found)
        if not rollout.is_waiting(host) or action.get("attempt", 1) != rollout.attempt(host):
            found = f"row {seq} dispatches {host} in {rollout_id}, which has its dispatch"
            raise Broken(Promise.PLANNER, found)
        if action["target_closure"] != model.target:
            found = f"row {seq} dispatches {action['target_closure']}, not {model.target}"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
        too_soon = self.gates.minutes.dispatched(rollout.layout, datetime.fromisoformat(row.ts))
        if too_soon is not None:
            raise Broken(Promise.WITHIN_LIMITS, f"row {seq}: {too_soon}")
        model.is_queued = True
        model.queued_since = datetime.fromisoformat(row.ts)
        model.dispatched_at = model.dispatched_at or row.ts
        model.soak_due_at = model.soak_due_at or action["soak_due_at"]
        rollout.join()

    def _open(self, rollout_id: str) -> None:
        self._all_may_have_changed = True
        released = self.releases.find(rollout_id)
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
        layout = self.layouts[rollout_id]
        hosts = {host: self._host_of(released, host) for host in layout.hosts}
        rollout = RolloutModel(rollout_id, layout, hosts, released.begins)
        self.rollouts[rollout_id] = rollout
        rollout.advance()  # Its first wave may have guards.

    def _host_of(self, released: Released, host: str) -> HostModel:
        return HostModel(
            host,
            released.closures[host],
            self._threshold_seconds,
            released.layout.on_health_failure is OnHealthFailure.ROLLBACK_AND_HALT,
            fails_at_deadline=has_consequence(released.layout.policy.deadlines.convergence),
        )

    def _amend(self, rollout: RolloutModel) -> None:
        """Let hosts join and leave as the manifest in force says; those that join begin anew."""
        released = self.releases.find(rollout.rollout_id)
        assert released is not None, rollout.rollout_id
        layout = self.layouts[rollout.rollout_id]
        for host in rollout.hosts.keys() - set(layout.hosts):
            self.deferred.pop((rollout.rollout_id, host), None)
        joined = set(layout.hosts) - rollout.hosts.keys()
        rollout.amend(layout, {host: self._host_of(released, host) for host in joined})

    def _command(self, command: Json) -> None:
        self._all_may_have_changed = True
        match command["kind"]:
            case "PauseScope":
                self.gates.holds[command["scope"], f"operator:{command['operator']}"] = None
            case "ResumeScope":
                self.gates.resume(command["scope"], command["operator"])
            case "PlaceHold":
                key = command["scope"], f"operator:{command['operator']}"
                self.gates.holds[key] = command["until"]
            case "ReleaseHold":
                holder = command["holder"] or command["operator"]
                self.gates.holds.pop((command["scope"], f"operator:{holder}"), None)
            case "RetireQuarantine":
                self._quarantined(command["channel"]).discard(command["closure"])
            case _:
                pass  # Whom a clearance excuses comes as an event.

    def _hold_event(self, event: Json, at: datetime) -> None:
        """Take what the time did to a hold: one that ends was on, and its end has come.

        What a calendar should do is not taken from here: the gates look at it themselves.
        """
        self._all_may_have_changed = True
        if event["kind"] == "HoldBegan":
            hold = event["hold"]
            self.gates.holds[hold["scope"], hold["source"]] = hold.get("until")
            return
        key = event["scope"], event["source"]
        if is_by_calendar(key[1]):
            self.gates.holds.pop(key, None)
            return
        until = self.gates.holds.pop(key, None)
        if until is None or datetime.fromisoformat(until) > at:
            raise Broken(Promise.PLANNER, f"the hold of {key} ends at {at}, and its end is {until}")

    def _artefact(self, rollout_id: str | None, payload: Json) -> None:
        problem = self.identities.artefact_taken(payload["name"], orjson.loads(payload["body"]))
        if problem is not None:
            raise Broken(Promise.NOTHING_OLDER_IN_FORCE, problem)
        if rollout_id is None:
            return
        self._all_may_have_changed = True
        if payload["body"].encode() not in self.releases.manifests:
            found = f"a manifest of {rollout_id} is in force that CI did not sign"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
        channel = rollout_id.partition("@")[0]
        self.gates.in_force[channel] = rollout_id
        self.hashes[rollout_id] = sha256(payload["body"].encode()).hexdigest()
        self.gates.calendars[channel] = self.releases.calendars[payload["body"].encode()]
        self.layouts[rollout_id] = self.releases.manifests[payload["body"].encode()]

    def _enrolled(self, payload: Json, at: datetime) -> None:
        token = token_of(orjson.loads(payload["token"])["token"])
        problem = self.identities.enrolled(token, payload["public_key"], at)
        if problem is not None:
            raise Broken(Promise.ENROLLMENT, problem)
        # A machine that enrolls anew is not one of two any more.
        self.gates.holds.pop((f"host:{token.hostname}", "contradiction"), None)
        self._all_may_have_changed = True

    def _quarantined(self, channel: str) -> set[str]:
        return self.gates.quarantined.setdefault(channel, set())

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
            if rollout.logged_standings != rollout.standings:
                found = (
                    f"the hosts of {rollout_id} should be {rollout.standings}, "
                    f"and the log has {rollout.logged_standings}"
                )
                raise Broken(Promise.STANDINGS, found)
            if rollout.is_served and any(rollout.members_change(self.layouts[rollout_id])):
                found = f"{rollout_id} has other hosts than its manifest"
                raise Broken(Promise.STANDINGS, found)
            if rollout.is_served:
                self._require_reasons(rollout)
            if rollout.is_under_way:
                self._require_no_silent_wait(rollout)
        self._changed = {}
        self._all_may_have_changed = False
        problem = first_difference(self.views, self.gates, self.deferred, self.head)
        if problem is not None:
            raise Broken(Promise.VIEWS_ARE_THE_LOG, problem)

    def _require_reasons(self, rollout: RolloutModel) -> None:
        for host, model in rollout.hosts.items():
            is_handed_out = model.is_queued and model.needs_dispatch(rollout.attempt(host))
            if not is_handed_out and not rollout.is_waiting(host):
                continue
            self.checks += 1
            if is_handed_out:
                gate = self.gates.withdrawing(rollout, host)
                if gate is not None:
                    found = f"{host} keeps its dispatch in {rollout.rollout_id}, against {gate}"
                    raise Broken(_promise_of(gate), found)
                continue
            gate = self.gates.first(rollout, host)
            logged_gate = self.deferred.get((rollout.rollout_id, host))
            if gate is None:
                found = f"{host} waits in {rollout.rollout_id} and nothing holds it"
                raise Broken(Promise.PLANNER, found)
            if gate != logged_gate:
                found = f"{host} waits in {rollout.rollout_id} for {gate}, and is reported {logged_gate}"
                raise Broken(Promise.PLANNER, found)

    def _require_no_silent_wait(self, rollout: RolloutModel) -> None:
        """Check that no host waits in vain, and that no wave is broken that nobody cleared."""
        self.checks += 1
        for host in rollout.hosts if rollout.layout.edges else ():
            if rollout.waits_in_vain(host):
                found = f"{host} in {rollout.rollout_id} waits for a host that does not come"
                raise Broken(Promise.STANDINGS, found)
        if rollout.was_interfered:
            return
        for wave in range(len(rollout.layout.waves)):
            if rollout.is_broken(wave):
                found = f"wave {wave} of {rollout.rollout_id} is broken: {rollout.count_of(wave)}"
                raise Broken(Promise.TOLERANCE, found)


def _promise_of(gate: str) -> Promise:
    return Promise.STEERING if gate == "operator-hold" else Promise.WITHIN_LIMITS
