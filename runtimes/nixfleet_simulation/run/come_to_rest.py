"""The final phase: without faults every rollout must settle, and then a good release must complete on every channel.

A gate that only operators can lift (a quarantine, a failing control on a converged host, a halted predecessor) may
hold a rollout until they release something else.
"""

from collections.abc import Callable
from typing import Final

from attrs import evolve, frozen

from nixfleet_simulation.judge.model.rollout_model import AT_REST, RolloutModel
from nixfleet_simulation.judge.promises import Broken, Promise
from nixfleet_simulation.nodes.agenda import SECOND
from nixfleet_simulation.run.perform_acts import LAST_REF, ActRunner
from nixfleet_simulation.run.world import World
from nixfleet_simulation.scenario.acts import (
    CONTROL_PLANE,
    ClockJump,
    LoseDisk,
    Release,
    TakeOver,
)
from nixfleet_simulation.scenario.closure_behaviour import Health

REST_WITHIN_SECONDS: Final = 3 * 3600
CHECK_EVERY_SECONDS: Final = 30
LIFTED_BY_OPERATORS: Final = frozenset({"quarantine", "channel-edges", "compliance-wave"})
"""Gates that nothing but a person lifts."""

RECALLABLE: Final = frozenset({"Activating", "Deferred", "Soaking", "Converged"})
HOME_WITHIN_SECONDS: Final = 900
HOME_BEFORE_SECONDS: Final = 150
"""A switch takes 40 s, and counts as one from home if an answer came five minutes before it at most."""
RECALLED_WITHIN: Final = 70 * 60 * SECOND
"""One that rolls back without end is waited for as long as an hour."""
UNSURE: Final = frozenset({Health.SILENT, Health.FLAPPING})


@frozen
class Rest:
    """How long it took, in virtual seconds: until every rollout rested, and until the last release was everywhere."""

    until_rest: float
    until_done: float


class FinalPhase:
    """The end of a run."""

    def __init__(self, world: World, act_runner: ActRunner) -> None:
        self._world = world
        self._act_runner = act_runner
        self._to_go_back: dict[tuple[str, str], int] = {}

    def run_to_rest(self) -> Rest:
        """End all faults. Raises: Broken."""
        self._end_faults()
        until_rest = self._wait_for(self._unsettled)
        for channel in self._world.scenario.channels:
            self._act_runner.release(Release(0, channel.name, LAST_REF, ""))
        until_done = self._wait_for(self._not_done)
        return Rest(until_rest, until_done)

    def _end_faults(self) -> None:
        world = self._world
        world.trace.narrate("world", "faults are over")
        self._act_runner.end_faults()
        world.network.clear()
        world.forged.clear()
        world.liar.reigns = 0
        for name in (CONTROL_PLANE, *world.hosts):
            node = world.node(name)
            node.boundaries.armed = None
            node.clock.set_right()
            node.disk.fills = node.disk.slows = 0
            self._act_runner.start(name)
        for host in world.hosts.values():
            host.machine.without_closures = 0
        for behaviours in world.behaviours.values():
            for closure, behaviour in behaviours.items():
                if behaviour.health in UNSURE:
                    behaviours[closure] = evolve(behaviour, health=Health.GOOD)
        world.ci.calendar = ()
        self._act_runner.sign()
        self._resume_all()
        self._bring_home()

    def _bring_home(self) -> None:
        """Have hosts that are cut off come home; fix those by hand that had no chance to notice."""
        agenda, cut = self._world.agenda, self._cut_off()
        if not cut:
            return
        agenda.run_until(agenda.now + HOME_WITHIN_SECONDS * SECOND)
        for hostname in sorted(cut & self._cut_off()):
            machine = self._world.hosts[hostname].machine
            answered_at = self._world.network.answered_at.get(hostname, 0)
            was_home = machine.running_since - answered_at <= HOME_BEFORE_SECONDS * SECOND
            if was_home and hostname not in self._troubled():
                found = f"{hostname} is cut off since {machine.running_since}, and was home before"
                raise Broken(Promise.COMES_HOME, found)
            behaviours = self._world.behaviours[hostname]
            behaviours[machine.running] = evolve(behaviours[machine.running], cuts_network=False)

    def _cut_off(self) -> set[str]:
        return {name for name, host in self._world.hosts.items() if host.machine.is_cut_off}

    def _troubled(self) -> set[str]:
        """Return the hosts that may not know that they were home: by their clock, or by an empty journal."""
        troubles = (ClockJump, LoseDisk, TakeOver)
        acts = [act for act in self._world.scenario.acts if isinstance(act, troubles)]
        return {act.new_journal if isinstance(act, TakeOver) else act.node for act in acts}

    def _wait_for(self, left: Callable[[], list[str]]) -> float:
        agenda = self._world.agenda
        since = agenda.now
        while waiting := left():
            lasted = (agenda.now - since) / SECOND
            if lasted >= REST_WITHIN_SECONDS:
                found = f"{lasted:.0f} s after the last fault {'; '.join(waiting)}"
                raise Broken(Promise.EVERYTHING_RESTS, found)
            self._resume_all()
            self._act_runner.steering.let_begin()
            self._act_runner.clear_for_lost_time()
            self._reboot_waiting_machines()
            agenda.run_until(agenda.now + CHECK_EVERY_SECONDS * SECOND)
        return (agenda.now - since) / SECOND

    def _resume_all(self) -> None:
        """Resume what is paused, as an operator; a host that contradicted itself gets a new journal first.

        Its old one would contradict the log again.
        """
        for scope in sorted(self._world.checker.log.gates.paused_scopes()):
            hostname = scope.removeprefix("host:")
            if hostname in self._world.hosts and self._world.hosts[hostname].is_up:
                self._act_runner.replace_disk(hostname)
            self._act_runner.resume(scope)

    def _reboot_waiting_machines(self) -> None:
        """Reboot the machines that wait for a reboot."""
        for hostname, host in self._world.hosts.items():
            machine = host.machine
            if machine.boots != machine.running and host.is_up and not machine.is_at_work:
                self._act_runner.reboot(hostname, CHECK_EVERY_SECONDS)

    def _unsettled(self) -> list[str]:
        """Return the rollouts that have not settled and do not wait for operators."""
        rollouts = self._world.checker.log.rollouts
        moving = [
            f"{rollout_id} is {rollout.due.state}"
            for rollout_id, rollout in rollouts.items()
            if rollout.due.state not in AT_REST
            and not self._waits_for_operators(rollout)
            and not self._depends_on_a_lie(rollout)
        ]
        return moving + self._unreported() + self._not_back()

    def _not_back(self) -> list[str]:
        """Return the hosts that an order in force is for, and that have not gone back. Raises: Broken."""
        checker, now = self._world.checker, self._world.agenda.now
        waiting = {
            (order_id, host): f"{host} is in {rollout_id}, against {order_id}"
            for order_id, rollout_id in checker.log.views.warrants.items()
            for host in self._recalled_by(order_id, rollout_id)
        }
        for key in waiting:
            if now - self._to_go_back.setdefault(key, now) > RECALLED_WITHIN:
                raise Broken(Promise.WARRANTS, f"without any fault {waiting[key]}")
        return list(waiting.values())

    def _recalled_by(self, order_id: str, rollout_id: str) -> list[str]:
        """Return the hosts that the order is for, and that can go back and have not."""
        checker = self._world.checker
        warrant, rollout = checker.histories.orders[order_id], checker.log.rollouts.get(rollout_id)
        is_served = rollout is not None and rollout.is_served
        if rollout is None or not is_served or self._world.agenda.time >= warrant.expires_at:
            return []  # A newer release took over from it, or the order is over.
        return [
            host
            for host, model in rollout.hosts.items()
            if model.state in RECALLABLE
            and (not warrant.hosts or host in warrant.hosts)
            and (history := checker.histories.by_host.get((rollout_id, host))) is not None
            and not (history.is_closed or history.taken_over_seq)
            and history.prior != model.target
            and (rollout_id, host) not in checker.lies.followed
        ]

    def _waits_for_operators(self, rollout: RolloutModel) -> bool:
        """Return whether a host is held by what only operators lift, and none is in flight."""
        gates = self._world.checker.log.gates
        held = {gates.first(rollout, host) for host in rollout.hosts if rollout.is_waiting(host)}
        under_way = any(
            model.is_in_flight or model.state == "Deferred" for model in rollout.hosts.values()
        )
        if under_way:
            return False
        awaited = {
            "disruption-budget": [host for host in rollout.hosts if rollout.takes_slot(host)],
            "host-edge": rollout.awaited_by_others(),
        }
        return bool(held & LIFTED_BY_OPERATORS) or any(
            hosts and all(self._is_down_for_good(rollout, host) for host in hosts)
            for gate, hosts in awaited.items()
            if gate in held
        )

    def _is_down_for_good(self, rollout: RolloutModel, host: str) -> bool:
        """Return whether the host takes a slot until it is excused: its rollback failed, and no deadline ends that."""
        machine = self._world.hosts[host].machine
        return rollout.is_down_for_good(host) and not machine.is_at_work

    def _depends_on_a_lie(self, rollout: RolloutModel) -> bool:
        """Return whether a host whose journal was lost took over a record of it that was a lie.

        It may believe that it has done what it has not, and nothing but a newer release corrects that.
        """
        lies = self._world.checker.lies.followed
        return any((rollout.rollout_id, host) in lies for host in rollout.hosts)

    def _unreported(self) -> list[str]:
        """Return the hosts whose facts are not all in the log yet."""
        checker = self._world.checker
        return [
            f"the log lacks facts of {host} in {rollout_id}"
            for (rollout_id, host), history in checker.histories.by_host.items()
            if (model := checker.log.host_model(rollout_id, host)) is not None
            and model.last_seq < history.last_seq
            and (rollout_id, host) not in checker.lies.followed
        ]

    def _not_done(self) -> list[str]:
        rollouts = self._world.checker.log.rollouts
        names = [f"{channel.name}@{LAST_REF}" for channel in self._world.scenario.channels]
        states = {
            name: rollouts[name].due.state if name in rollouts else "not open" for name in names
        }
        return [f"{name} is {state}" for name, state in states.items() if state != "Terminal"]
