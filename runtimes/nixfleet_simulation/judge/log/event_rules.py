"""What rollout events may say of hosts, and when: what time makes due, what operators order, who waits in vain."""

from datetime import datetime, timedelta
from typing import Final

from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ExcuseHosts,
    PlanTick,
    RelayWarrant,
    ReportVerdict,
    RetryHosts,
    SkipHosts,
)
from nixfleet_proto.steering.guards import WaveGuards
from nixfleet_simulation.judge.log.read_log import ReadLog
from nixfleet_simulation.judge.model.dues import SILENT_AFTER, lapse_due, retry_due_at
from nixfleet_simulation.judge.model.gates import is_by_calendar
from nixfleet_simulation.judge.model.host_model import Json
from nixfleet_simulation.judge.model.rollout_model import UNDER_WAY, RolloutModel
from nixfleet_simulation.judge.model.steering.guards import MATCHES
from nixfleet_simulation.judge.promises import Broken, Promise
from nixfleet_simulation.scenario.scenario import PolicyLayout

AHEAD_MAX: Final = timedelta(seconds=60)
WRITE_MAX: Final = timedelta(seconds=30)
"""A change is durable this long after it was decided, at the latest."""


class EventRules:
    """The judge of rollout events. Raises `Broken` for the first that is wrong."""

    def __init__(self, log: ReadLog) -> None:
        self._log = log

    def require_legal(self, rollout: RolloutModel, event: Json) -> None:
        """Check that what an event says of hosts is due, or was ordered."""
        self._log.checks += 1
        kind, input = event["kind"], self._log.input
        found = None
        if kind == "HostsLapsed":
            for host in event["hosts"]:
                due = self._lapse_due(rollout, host)
                if due != (event["stage"], event["standing"]):
                    found = (
                        f"{host} lapses ({event['stage']}, {event['standing']}), and {due} is due"
                    )
                elif event.get("withdraws", False) is not (
                    event["stage"] == "ack" and self._is_off(host)
                ):
                    found = f"{host} lapses, and its dispatch is wrongly withdrawn or kept: {event}"
        elif kind == "RetryOrdered":
            for host in event["hosts"]:
                at = retry_due_at(rollout.layout.policy, rollout.hosts[host], rollout.attempt(host))
                is_due = isinstance(input, PlanTick) and at is not None and at <= self._log.now
                if not (is_due or isinstance(input, RetryHosts)):
                    found = f"{host} is to try again at {self._log.now}, and may at {at}"
        elif kind == "RolloutAborted" and not isinstance(input, AbortRollout | RelayWarrant):
            found = "it is aborted, and no operator ordered that"
        elif kind == "StandingChanged":
            found = self._standing_objection(rollout, event)
        elif kind == "MembersChanged":
            expected = rollout.members_change(self._log.layouts[rollout.rollout_id])
            if (event["joined"], event["left"], event["late"]) != expected:
                found = f"its members change: {event}, expected {expected}"
        if found is not None:
            raise Broken(Promise.STANDINGS, f"{rollout.rollout_id}: {found}")
        if kind == "Verdict":
            self._require_said(rollout, event)
        elif kind == "WaveAdvanced":
            self._require_guarded(rollout, event)

    def _require_guarded(self, rollout: RolloutModel, event: Json) -> None:
        """Check that what was said lets the wave begin."""
        wave = event["to_wave"]
        guards = rollout.layout.guards_of(wave)
        # The model of what is due has begun it with the last verdict, if it may begin.
        if rollout.logged.wave < wave and rollout.due.wave < wave and guards.is_declared:
            found = f"wave {wave} of {rollout.rollout_id} begins, and its guards hold it"
            raise Broken(Promise.STEERING, found)

    def _require_said(self, rollout: RolloutModel, event: Json) -> None:
        """Check that a verdict is what its judge said, of a guard that asks that one."""
        wave, guards = event["wave"], rollout.layout.guards_of(event["wave"])
        wrong = (
            self._bake_objection(rollout, event, guards)
            if event["judge"] == "time"
            else self._answer_objection(event)
            if isinstance(self._log.input, ReportVerdict)
            else self._statement_objection(rollout, event, guards)
        )
        if wrong is not None:
            found = f"{event['guard']} of wave {wave} of {rollout.rollout_id} is {event['outcome']}"
            raise Broken(Promise.STEERING, f"{found} by {event['judge']}: {wrong}")

    def _bake_objection(self, rollout: RolloutModel, event: Json, guards: WaveGuards) -> str | None:
        lasts = timedelta(minutes=guards.bake_minutes)
        if (event["guard"], event["outcome"]) != ("bake", "pass") or not guards.bake_minutes:
            return "the time says nothing but that a bake is over"
        is_next = rollout.logged.asks and event["wave"] == rollout.logged.wave + 1
        if not is_next or rollout.asked_at is None:
            return "its guards are not asked"
        if self._log.now < rollout.asked_at + lasts:
            return f"it is asked since {rollout.asked_at}, and it is {self._log.now}"
        since, moment = rollout.asked_moment, self._log.moment
        true = timedelta(microseconds=moment.at - since.at + moment.set_forward - since.set_forward)
        if true + WRITE_MAX < lasts:
            return f"it is asked for {true}, in true time, and a clock that was set forward"
        return None

    def _answer_objection(self, event: Json) -> str | None:
        asked = self._log.input
        assert isinstance(asked, ReportVerdict), asked
        said = asked.question.check, asked.question.wave, asked.outcome.value
        logged = event["guard"], event["wave"], event["outcome"]
        return None if said == logged else f"it said {said}"

    def _statement_objection(
        self, rollout: RolloutModel, event: Json, guards: WaveGuards
    ) -> str | None:
        """Return why a verdict is not what its operator signed, for this wave of the manifest that is in force."""
        said = self._log.statements.get(event.get("signature") or "")
        if said is None or not said.is_genuine:
            return "nobody signed that"
        is_asked = guards.approvals is not None and said.operator in guards.approvals.names
        of_guards = event["guard"] == "approvals" and is_asked
        if said.decision == "promote":
            of_guards = event["guard"] in guards.waivable
        return (
            "another did"
            if said.operator != event["judge"]
            else "it is about another wave"
            if (said.rollout_id, said.wave) != (rollout.rollout_id, event["wave"])
            else "it is about another manifest"
            if said.manifest_hash != self._log.hashes[rollout.rollout_id]
            else f"it says {said.decision}"
            if said.decision != MATCHES.get(event["outcome"])
            else "its guard does not ask for it"
            if not of_guards
            else "it is of the future"
            if said.signed_at - self._log.now > AHEAD_MAX
            else "it is from before a clearance"
            if rollout.cleared_at is not None and said.signed_at < rollout.cleared_at
            else None
        )

    def _standing_objection(self, rollout: RolloutModel, event: Json) -> str | None:
        standing, input = event["standing"], self._log.input
        is_ordered = {"excused": ExcuseHosts, "away": SkipHosts}
        if standing in is_ordered:
            ordered = isinstance(input, is_ordered[standing])
            return None if ordered else f"{event['hosts']} are {standing}, by nobody's order"
        if standing == "skipped":
            in_vain = self._in_vain(rollout, set(event["hosts"]))
            expected = {host for host in event["hosts"] if rollout.standing(host) == "skipped"}
            if not set(event["hosts"]) <= in_vain | expected:
                return f"{event['hosts']} are skipped, and {sorted(in_vain)} wait in vain"
        return None

    def _in_vain(self, rollout: RolloutModel, among: set[str]) -> set[str]:
        """Return which hosts of `among` wait for one that does not come, or for one that so waits."""
        found: set[str] = set()
        while True:
            more = {
                then
                for first, then in rollout.layout.edges
                if then in among - found
                and rollout.standing(then) == "counted"
                and rollout.is_waiting(then)
                and (first in found or rollout.never_comes(first))
            }
            if not more:
                return found
            found |= more

    def _require_bakes_said(self, rollout: RolloutModel) -> None:
        """Check that a bake whose time is over was said to be so."""
        due, at = rollout.due, rollout.asked_at
        minutes = rollout.layout.guards_of(due.wave + 1).bake_minutes if due.asks else 0
        if not minutes or at is None or due.state not in (*UNDER_WAY, "Opening"):
            return
        tally = rollout.said.of(due.wave + 1, "bake")
        is_over = self._log.now >= at + timedelta(minutes=minutes)
        if is_over and not tally.passed and not tally.is_waived:
            found = f"the bake of {rollout.rollout_id} since {at} should be over at {self._log.now}"
            raise Broken(Promise.STEERING, found)

    def _lapse_due(self, rollout: RolloutModel, host: str) -> tuple[str, str] | None:
        return lapse_due(
            rollout.layout.policy,
            rollout.hosts[host],
            rollout.standing(host),
            rollout.attempt(host),
            self._log.now,
        )

    def _is_off(self, host: str) -> bool:
        heard = self._log.last_heard.get(host)
        return heard is None or self._log.now - heard > SILENT_AFTER

    def require_nothing_due(self) -> None:
        """Check, after a tick, that everything that the time made due was said."""
        for name in self._log.gates.minutes.due(self._log.now):
            found = f"slots of {name} should have come back by {self._log.now}"
            raise Broken(Promise.PLANNER, found)
        for (scope, source), until in self._log.gates.holds.items():
            is_over = until is not None and datetime.fromisoformat(until) <= self._log.now
            if is_over and not is_by_calendar(source):
                found = f"the hold of {scope} by {source} should have ended at {until}"
                raise Broken(Promise.PLANNER, found)
        for rollout in self._log.rollouts.values():
            self._require_bakes_said(rollout)
            policy = rollout.layout.policy
            if not rollout.is_served or policy == PolicyLayout():
                continue
            for host, model in rollout.hosts.items():
                self._log.checks += 1
                lapse = self._lapse_due(rollout, host)
                retry = retry_due_at(policy, model, rollout.attempt(host))
                stands = rollout.standing(host) in ("counted", "late")
                if lapse is not None or (stands and retry is not None and retry <= self._log.now):
                    found = f"{host} in {rollout.rollout_id}: {lapse or retry} is due at {self._log.now}"
                    raise Broken(Promise.STANDINGS, found)
