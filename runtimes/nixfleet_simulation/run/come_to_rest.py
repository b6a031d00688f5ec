"""After the last fault: everything works again, and every rollout must come to rest; then a good release, everywhere.

What only people can lift (a quarantine, a control that fails on a host that is done, a halted predecessor) may
hold a rollout until they release something else, and they do.
"""

from collections.abc import Callable
from typing import Final

from attrs import frozen

from nixfleet_simulation.judge.model.rollout_course import AT_REST, RolloutCourse
from nixfleet_simulation.judge.promises import Broken, Promise
from nixfleet_simulation.nodes.agenda import SECOND
from nixfleet_simulation.run.perform_acts import Acting
from nixfleet_simulation.run.world import World
from nixfleet_simulation.scenario.acts import CONTROL_PLANE, Release
from nixfleet_simulation.scenario.closure_behaviour import Conduct, Health

REST_WITHIN_SECONDS: Final = 3 * 3600
LOOKS_EVERY_SECONDS: Final = 30
FOR_PEOPLE: Final = frozenset({"quarantine", "channel-edges", "compliance-wave"})
"""Gates that nothing but a person lifts."""

UNSURE: Final = frozenset({Health.SILENT, Health.FLAPPING})


@frozen
class Rest:
    """How long it took, in virtual seconds: until every rollout rested, and until the last release was everywhere."""

    until_rest: float
    until_done: float


class Calm:
    """The end of a run."""

    def __init__(self, world: World, acting: Acting) -> None:
        self._world = world
        self._acting = acting

    def come_to_rest(self) -> Rest:
        """Let faults be over. Raises: Broken."""
        self._make_fair()
        until_rest = self._wait_for(self._moving)
        for channel in self._world.scenario.channels:
            self._acting.release(Release(0, channel.name, "last", ""))
        until_done = self._wait_for(self._not_done)
        return Rest(until_rest, until_done)

    def _make_fair(self) -> None:
        world = self._world
        world.trace.tell("world", "faults are over")
        self._acting.calm_down()
        world.network.clear()
        world.forged.clear()
        for name in (CONTROL_PLANE, *world.hosts):
            node = world.node(name)
            node.crossings.armed = None
            node.clock.off_by = 0
            node.disk.fills = node.disk.slows = 0
            self._acting.start(name)
        for conducts in world.conducts.values():
            for closure, conduct in conducts.items():
                if conduct.health in UNSURE:
                    conducts[closure] = Conduct(conduct.switch, conduct.rollback)
        self._acting.sign()
        for scope in sorted(world.checker.ledger.gates.holds):
            self._acting.resume(scope)

    def _wait_for(self, left: Callable[[], list[str]]) -> float:
        agenda = self._world.agenda
        since = agenda.now
        while waiting := left():
            lasted = (agenda.now - since) / SECOND
            if lasted >= REST_WITHIN_SECONDS:
                found = f"{lasted:.0f} s after the last fault {'; '.join(waiting)}"
                raise Broken(Promise.EVERYTHING_RESTS, found)
            self._boot_what_waits()
            agenda.run_until(agenda.now + LOOKS_EVERY_SECONDS * SECOND)
        return (agenda.now - since) / SECOND

    def _boot_what_waits(self) -> None:
        """Somebody reboots the machines that wait for it."""
        for hostname, host in self._world.hosts.items():
            machine = host.machine
            if machine.boots != machine.running and host.is_up and not machine.is_at_work:
                self._acting.reboot(hostname, LOOKS_EVERY_SECONDS)

    def _moving(self) -> list[str]:
        """Rollouts that are not at rest, and that nobody but time has to do anything about."""
        rollouts = self._world.checker.ledger.rollouts
        moving = [
            f"{rollout_id} is {rollout.due.state}"
            for rollout_id, rollout in rollouts.items()
            if rollout.due.state not in AT_REST and not self._waits_for_people(rollout)
        ]
        return moving + self._silent()

    def _waits_for_people(self, rollout: RolloutCourse) -> bool:
        """Some host is held by what only people lift, and nobody is under way."""
        gates = self._world.checker.ledger.gates
        held = [
            gates.first(rollout, host)
            for host, course in rollout.hosts.items()
            if course.is_unacknowledged and not course.is_queued
        ]
        under_way = any(
            course.is_in_flight or course.state == "Deferred" for course in rollout.hosts.values()
        )
        return not under_way and any(gate in FOR_PEOPLE for gate in held)

    def _silent(self) -> list[str]:
        """Hosts whose facts are not all in the log: what they lived is still on its way."""
        checker = self._world.checker
        return [
            f"the log lacks facts of {host} in {rollout_id}"
            for (rollout_id, host), life in checker.lives.lives.items()
            if (course := checker.ledger.course(rollout_id, host)) is not None
            and course.last_seq < life.last_seq
        ]

    def _not_done(self) -> list[str]:
        rollouts = self._world.checker.ledger.rollouts
        names = [f"{channel.name}@last" for channel in self._world.scenario.channels]
        states = {
            name: rollouts[name].due.state if name in rollouts else "not open" for name in names
        }
        return [f"{name} is {state}" for name, state in states.items() if state != "Terminal"]
