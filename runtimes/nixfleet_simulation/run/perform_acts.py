"""Performs acts: what each does to the world. Operators check what is halted before they clear it."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final, assert_never

from nixfleet_control_plane.messages.inputs import (
    ClearRollout,
    ExcuseHosts,
    OperatorCommand,
    PauseScope,
    Reply,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_simulation.judge.model.rollout_model import CLEARABLE
from nixfleet_simulation.nodes.agenda import SECOND
from nixfleet_simulation.nodes.ci import OPERATOR
from nixfleet_simulation.run.perform_hostile_acts import HostileActs
from nixfleet_simulation.run.perform_leadership_acts import LeadershipActs
from nixfleet_simulation.run.perform_steering_acts import SteeringActs
from nixfleet_simulation.run.world import World
from nixfleet_simulation.scenario.acts import (
    CONTROL_PLANE,
    Abort,
    Act,
    AlterRequests,
    Amend,
    AnswerBadly,
    BorrowName,
    Boundary,
    Clear,
    ClockJump,
    Crash,
    Excuse,
    ForgeAnswers,
    ForgedRelease,
    FullDisk,
    HalfExchanged,
    LoseDisk,
    LossyNetwork,
    NewKey,
    NewToken,
    NoClosures,
    Partition,
    Pause,
    PowerOff,
    PutOlderBack,
    Reboot,
    RecallRelease,
    Release,
    ReplayRequests,
    Retire,
    Revoke,
    RotateKey,
    Skip,
    SlowDisk,
    StealToken,
    StopSigning,
    TakeOver,
    TryAgain,
    description,
)
from nixfleet_simulation.scenario.leadership_acts import (
    CutFromStore,
    EndProcess,
    RestartStore,
    StandStill,
)
from nixfleet_simulation.scenario.steering_acts import (
    ChangeCalendar,
    FreezeFor,
    HoldUntil,
    JudgeSays,
    StateAgain,
    StateOn,
)
from nixfleet_state_machine.planner.holds.scope import parse_scope

LAST_REF: Final = "last"
"""The ref of the good release at the end, which must be complete on every channel."""
RESTART_AFTER_CRASH_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 30.0
NEW_DISK_AFTER_SECONDS: Final = 300.0
"""As for every lost database: no message of the one before is on its way any more."""


class ActRunner:
    """Performs acts. faults: the number of acts, by name. steering: performs those of people who steer.

    leadership: performs those of several control planes."""

    def __init__(self, world: World) -> None:
        self.faults: Counter[str] = Counter()
        self._world = world
        self._layouts = {channel.name: channel for channel in world.scenario.channels}
        self._signs_from = 0
        self._faults_are_over = False
        self._crashes: dict[str, Crash] = {}
        self._hostile = HostileActs(world, self._later, self._note_signing, self.start)
        self.steering = SteeringActs(world, self._later, self.order, self.sign)
        self.leadership = LeadershipActs(world, self._later)
        for name in (CONTROL_PLANE, *world.hosts):
            world.node(name).on_death = partial(self._crash_at_boundary, name)

    def schedule(self) -> None:
        """Schedule all acts of the scenario."""
        for act in self._world.scenario.acts:
            self._later(act.at_seconds, self.do, act)
        self._hostile.schedule()
        self._later(self._world.scenario.cadence.sign_again, self._sign_again)

    def do(self, act: Act) -> None:
        """Perform `act`."""
        world = self._world
        world.trace.narrate("world", description(act))
        if not isinstance(act, Release):
            self.faults[type(act).__name__] += 1
        match act:
            case Release():
                self.release(act)
            case ForgedRelease():
                world.ci.forge(self._layouts[act.channel], act.forgery, self._now())
            case RotateKey():
                world.ci.rotate(self._now(), is_compromised=act.is_compromised)
                self._note_signing()
            case Amend():
                self._amend(act.channel, act.host)
            case StopSigning():
                self._signs_from = world.agenda.now + int(act.for_seconds * SECOND)
            case ForgeAnswers():
                world.forged[act.host] += 1
                self._later(act.for_seconds, world.forged.subtract, {act.host: 1})
            case TakeOver():
                self._take_over(act)
            case Pause():
                self._pause(act)
            case Clear():
                self._clear(act)
            case Retire():
                self._retire(act.channel)
            case Excuse() | Skip() | TryAgain():
                self._decide_about_host(act)
            case (
                HoldUntil()
                | ChangeCalendar()
                | FreezeFor()
                | StateOn()
                | StateAgain()
                | JudgeSays()
                | Abort()
                | RecallRelease()
            ):
                self.steering.do(act)
            case PowerOff():
                self.reboot(act.host, act.for_seconds)
            case NoClosures():
                world.hosts[act.host].machine.without_closures += 1
                self._later(act.for_seconds, self._has_closures, act.host)
            case Revoke():
                world.ci.revoke(act.host, self._now())
                self._note_signing()
                self._later(act.for_seconds, self._reinstate, act.host)
            case LossyNetwork() | Partition():
                world.network.begin(act)
            case ClockJump():
                by = int(act.by_seconds * SECOND)
                world.node(act.node).clock.jump(by)
                self._later(act.for_seconds, self._set_right, act.node, by)
            case FullDisk():
                world.node(act.node).disk.fills += 1
                self._later(act.for_seconds, self._has_room, act.node)
            case SlowDisk():
                world.node(act.node).disk.slows += 1
                self._later(act.for_seconds, self._is_fast, act.node)
            case Crash():
                self._crash(act)
            case LoseDisk():
                self._lose_disk(act)
            case Reboot():
                self._reboot(act)
            case (
                ReplayRequests()
                | BorrowName()
                | AlterRequests()
                | AnswerBadly()
                | NewKey()
                | NewToken()
                | StealToken()
                | HalfExchanged()
                | PutOlderBack()
            ):
                self._hostile.do(act)
            case StandStill() | EndProcess() | CutFromStore() | RestartStore():
                self.leadership.do(act)
            case _:
                assert_never(act)

    def _later(self, seconds: float, happen: Callable[..., None], *arguments: object) -> None:
        self._world.agenda.after(int(seconds * SECOND), None, happen, *arguments)

    def _now(self) -> datetime:
        return self._world.agenda.time

    # CI.

    def release(self, act: Release) -> None:
        """Release by CI."""
        layout = self._layouts[act.channel]
        offer = self._world.ci.release(layout, act.ref, act.closure, self._now())
        for host, behaviour in act.behaviours:
            self._world.behaviours[host][offer.closures[host]] = behaviour
        self._note_signing()

    def _amend(self, channel: str, host: str) -> None:
        present, declared = self._layouts[channel], self._world.scenario.channel(channel)
        hosts = {*present.hosts} ^ {host}
        self._layouts[channel] = declared.with_hosts(hosts)
        self._world.ci.amend(self._layouts[channel], self._now())
        self._note_signing()

    def sign(self) -> None:
        """Sign the current releases again."""
        self._world.ci.sign_again(self._now())
        self._note_signing()

    def _sign_again(self) -> None:
        if self._world.agenda.now >= self._signs_from:
            self.sign()
        self._later(self._world.scenario.cadence.sign_again, self._sign_again)

    def _note_signing(self) -> None:
        ci, key = self._world.ci, self._world.ci.trust.ci_release_key.current.public_key
        if ci.published is None:
            return
        for channel, manifest in ci.published.manifests:
            offer = ci.latest_release(channel)
            if offer is None:
                continue  # It was forged, and CI has released nothing yet.
            layout = self._layouts[channel]
            self._world.checker.released(
                layout, offer, self._now(), key, manifest.body, ci.calendar
            )

    # Operators.

    def _pause(self, act: Pause) -> None:
        scope = self._newest(act.channel) if act.is_rollout else act.channel
        if scope is not None:
            self.order(PauseScope(parse_scope(scope), OPERATOR, "looks wrong"))
            self._later(act.for_seconds, self.resume, scope)

    def resume(self, scope: str) -> None:
        """Resume `scope` as an operator, repeating until it is resumed."""
        if scope in self._world.checker.log.gates.paused_scopes():
            self.order(ResumeScope(parse_scope(scope), OPERATOR, "looks right"))
            self._later(RETRY_SECONDS, self.resume, scope)

    def _clear(self, act: Clear) -> None:
        everybody = frozenset(self._layouts[act.channel].hosts) if act.everybody else frozenset()
        for rollout_id, rollout in self._world.checker.log.rollouts.items():
            if rollout.layout.name == act.channel and rollout.due.state in CLEARABLE:
                excused = everybody or frozenset[str]()
                self.order(ClearRollout(RolloutId(rollout_id), OPERATOR, "fixed", excused))

    def clear_for_lost_time(self) -> None:
        """Clear the halted rollouts of channels with deadlines: a host may miss one while it finds its way back."""
        for layout in self._layouts.values():
            rollout = self._world.checker.log.rollouts.get(f"{layout.name}@{LAST_REF}")
            is_halted = rollout is not None and rollout.due.state in CLEARABLE
            if is_halted and layout.policy.deadlines.is_declared:
                self._clear(Clear(0, layout.name, everybody=False))

    def _decide_about_host(self, act: Excuse | Skip | TryAgain) -> None:
        """Give the command, in the channel's newest rollout; the control plane refuses what makes no sense."""
        rollout_id = self._newest(act.channel)
        if rollout_id is None:
            return
        newest, hosts = RolloutId(rollout_id), frozenset({act.host} - {""})
        match act:
            case Excuse():
                self.order(ExcuseHosts(newest, hosts, OPERATOR, "it is being repaired"))
            case Skip():
                self.order(SkipHosts(newest, hosts, OPERATOR, "it is off"))
            case TryAgain():
                self.order(RetryHosts(newest, hosts, OPERATOR, "its disk was full"))
            case _:
                assert_never(act)

    def _retire(self, channel: str) -> None:
        for closure in sorted(self._world.checker.log.gates.quarantined.get(channel, ())):
            self.order(RetireQuarantine(channel, closure, OPERATOR, "it was the disk"))

    def _reinstate(self, host: str) -> None:
        if self._world.ci.reinstate(host, self._now()):
            self._note_signing()

    def order(self, command: OperatorCommand) -> None:
        """Post an operator's command, ahead of the queue."""
        self._world.control_plane.post(command, _ignore, is_urgent=True)

    def _newest(self, channel: str) -> str | None:
        return self._world.checker.log.gates.in_force.get(channel)

    # The control plane that lies.

    def _take_over(self, act: TakeOver) -> None:
        self._world.liar.reigns += 1
        if act.new_journal:
            self._lose_disk(LoseDisk(act.at_seconds, act.new_journal, NEW_DISK_AFTER_SECONDS))
        self._later(act.for_seconds, self._heal, act)

    def _heal(self, act: TakeOver) -> None:
        """End a takeover: the honest control plane answers again, if no other takeover lasts."""
        if self._faults_are_over:
            return
        self._world.liar.reigns -= 1
        if act.loses_database:
            lost = LoseDisk(act.at_seconds + act.for_seconds, CONTROL_PLANE, NEW_DISK_AFTER_SECONDS)
            self._lose_disk(lost)

    # Clocks, disks and processes.

    def _set_right(self, node: str, by: int) -> None:
        if not self._faults_are_over:  # Otherwise every clock was corrected already.
            self._world.node(node).clock.jump(-by)

    def _has_room(self, node: str) -> None:
        self._world.node(node).disk.fills -= 1

    def _has_closures(self, host: str) -> None:
        if not self._faults_are_over:
            self._world.hosts[host].machine.without_closures -= 1

    def _is_fast(self, node: str) -> None:
        self._world.node(node).disk.slows -= 1

    def _crash(self, act: Crash) -> None:
        node = self._world.node(act.node)
        if not node.is_up:
            return
        if act.boundary is Boundary.AT_ONCE:
            node.die(write_survives=act.write_survives)
            self._later(act.back_after_seconds, self.start, act.node)
        else:
            self._crashes[act.node] = act
            node.boundaries.armed = act.boundary

    def _crash_at_boundary(self, name: str) -> None:
        """End the process of a node that crossed the boundary of its crash."""
        act = self._crashes.pop(name, None)
        die_at = self._world.die_at
        survives = act.write_survives if act else die_at is not None and die_at.write_survives
        self._world.node(name).die(write_survives=survives)
        back = RESTART_AFTER_CRASH_SECONDS if act is None else act.back_after_seconds
        self._later(back, self.start, name)

    def start(self, name: str) -> None:
        """Start the node, if it is down."""
        node = self._world.node(name)
        if not node.is_up:
            node.start()

    def _lose_disk(self, act: LoseDisk) -> None:
        self._world.node(act.node).die()
        if act.node == CONTROL_PLANE:
            self._world.control_plane.disk.replace()
            self._world.checker.database_lost()
        else:
            self._world.hosts[act.node].lose_disk()
            self._world.checker.disk_lost(act.node)
        self._later(act.back_after_seconds, self.start, act.node)

    def replace_disk(self, hostname: str) -> None:
        """Give the host an empty disk, and start it again later."""
        self._lose_disk(LoseDisk(0, hostname, NEW_DISK_AFTER_SECONDS))

    def _reboot(self, act: Reboot) -> None:
        self.reboot(act.host, act.back_after_seconds)

    def reboot(self, hostname: str, back_after_seconds: float) -> None:
        """Take the machine's power, and start it again later."""
        host = self._world.hosts[hostname]
        host.die()
        host.machine.lose_power()
        self._later(back_after_seconds, self.start, hostname)

    def end_faults(self) -> None:
        """Cancel all faults that are still to come."""
        self._faults_are_over = True
        self._hostile.end_faults()
        self.leadership.end_faults()
        for host in self._world.hosts:
            self._reinstate(host)
        self._signs_from = 0
        self._crashes.clear()


def _ignore(_: Reply) -> None:
    """Ignore the reply."""
