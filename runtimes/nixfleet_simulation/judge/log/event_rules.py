"""What rollout events may say of hosts, and when: what time makes due, what operators order, who waits in vain."""

from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ExcuseHosts,
    PlanTick,
    RelayWarrant,
    RetryHosts,
    SkipHosts,
)
from nixfleet_simulation.judge.log.read_log import ReadLog
from nixfleet_simulation.judge.model.dues import SILENT_AFTER, lapse_due, retry_due_at
from nixfleet_simulation.judge.model.host_model import Json
from nixfleet_simulation.judge.model.rollout_model import RolloutModel
from nixfleet_simulation.judge.promises import Broken, Promise
from nixfleet_simulation.scenario.scenario import PolicyLayout


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
        for rollout in self._log.rollouts.values():
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
