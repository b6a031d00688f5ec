"""`InMemoryFleet`: what you can do to an in-memory fleet, and what you can read from it. No decision is taken here."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nixfleet_control_plane.messages.inputs import (
    ClearRollout,
    CommandOutcome,
    ExplainHost,
    Explanation,
    Input,
    OperatorCommand,
    PauseScope,
    Reply,
    ResumeScope,
    RetireQuarantine,
)
from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.checked import require_arguments
from nixfleet_proto.ids import RolloutId
from nixfleet_simulation.nodes.agenda import SECOND
from nixfleet_simulation.nodes.clock import time_at
from nixfleet_simulation.nodes.production_parts import PRODUCTION
from nixfleet_simulation.run.perform_acts import ActRunner
from nixfleet_simulation.run.world import World
from nixfleet_simulation.scenario.acts import (
    CONTROL_PLANE,
    Boundary,
    Crash,
    Direction,
    LoseDisk,
    Partition,
    Release,
)
from nixfleet_simulation.scenario.closure_behaviour import GOOD, ClosureBehaviour, Health
from nixfleet_simulation.scenario.scenario import Cadence, Scenario
from nixfleet_state_machine.planner.action import GateBlock
from nixfleet_state_machine.planner.holds.scope import HoldScope, parse_scope
from nixfleet_state_machine.planner.host_status import HostInFleet
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_testing.fleet_in_memory.channel import Channel, require_fleet, require_known
from nixfleet_testing.fleet_in_memory.errors import (
    CommandRefused,
    ControlPlaneDown,
    InvalidTime,
    RefTwice,
    UnknownName,
)
from nixfleet_testing.fleet_in_memory.recorder import FleetRecorder
from nixfleet_testing.fleet_in_memory.status import (
    ByName,
    HostStatus,
    host_table,
    rollout_table,
    waiting_reason,
)
from nixfleet_testing.fleet_in_memory.trace import FleetTrace, Kind

OPERATOR: Final = "ada"
CADENCE: Final = Cadence(probe_interval=60, watch_releases=5.0)
_SETTLED_AT: Final = 60 * SECOND
_ANSWERED_WITHIN: Final = 10 * SECOND
_LOOK_EVERY: Final = SECOND // 100
_SHARED_MEMORY: Final = Path("/dev/shm")


class InMemoryFleet:
    """A control plane and its hosts, in virtual time. Nothing happens until `pass_time`.

    hosts, waves and the other options describe one channel, as `Channel` does; its hosts are `web-01`, `web-02`, …
    `of` makes a fleet of several channels. offline: hosts that are switched off at the beginning.

    Every host starts with `closure-0`. Calls with equal arguments give equal traces, on every machine.
    Raises: InvalidFleet, WaveSizesDiffer, UnknownName. Any method raises InvalidValue for an argument of another type,
    and may raise `Broken` if the engines break one of the promises that the simulated fleet checks, which is a bug in
    nixfleet.
    """

    def __init__(
        self,
        hosts: int | Sequence[str] = 3,
        waves: Sequence[int] = (),
        *,
        channel: str = "stable",
        soak_minutes: int = 3,
        budget: int | None = None,
        edges: Sequence[tuple[str, str]] = (),
        on_health_failure: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT,
        offline: Collection[str] = (),
    ) -> None:
        only = Channel(
            channel,
            hosts,
            waves,
            soak_minutes=soak_minutes,
            budget=budget,
            edges=edges,
            on_health_failure=on_health_failure,
            prefix="web",
        )
        self._build((only,), offline)

    @classmethod
    def of(cls, *channels: Channel, offline: Collection[str] = ()) -> Self:
        """Return a fleet of `channels`."""
        fleet = cls.__new__(cls)
        fleet._build(channels, offline)
        return fleet

    def _build(self, channels: tuple[Channel, ...], offline: Collection[str]) -> None:
        require_fleet(channels, offline)
        layouts = tuple(channel.layout() for channel in channels)
        self._layouts = {layout.name: layout for layout in layouts}
        self._refs: set[tuple[str, str]] = set()
        memory = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
        directory = Path(tempfile.mkdtemp(prefix="nixfleet-in-memory-", dir=memory))
        trace = FleetTrace(_SETTLED_AT)
        world = World(
            Scenario(None, layouts, (), 0.0, CADENCE),
            directory,
            PRODUCTION,
            make_recorder=lambda story, checker: FleetRecorder(story, checker, trace),
        )
        self._directory = directory
        self._trace, self._world, self._acts = trace, world, ActRunner(world)
        self._closed = weakref.finalize(self, _close, world, directory)
        world.begin(without=offline)
        self._run(_SETTLED_AT)

    @property
    def directory(self) -> Path:
        """Where the database and the journals are, as files in memory if the system has such."""
        return self._directory

    def close(self) -> None:
        """Release the files. Also done when the fleet is no longer used, and at the end of a `with` block."""
        self._closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # What you can read.

    @property
    def now(self) -> datetime:
        """The fleet's time, aware, in UTC."""
        return time_at(self._world.agenda.now)

    @property
    def trace(self) -> FleetTrace:
        """Every fact, effect and log row so far, and what was done to the fleet."""
        return self._trace

    @property
    def hosts(self) -> Mapping[str, HostStatus]:
        """Every host by name, as of now. Raises: UnknownName, for a name that is no host's."""
        statuses = {
            name: self._status(name, layout.name, wave)
            for layout in self._layouts.values()
            for wave, names in enumerate(layout.waves)
            for name in names
        }
        return ByName("host", statuses)

    def _status(self, name: str, channel: str, wave: int) -> HostStatus:
        host, state = self._world.hosts[name], self._world.control_plane.state
        newest = self._newest(channel)
        record = None if newest is None else state.view.host(newest.rollout_id, name)
        waits = None if record is None else waiting_reason(state, record)
        return HostStatus(name, channel, wave, host.machine.running, host.is_up, record, waits)

    def _newest(self, channel: str) -> RolloutRecord | None:
        records = self._world.control_plane.state.view.rollouts_of(channel)
        return max(records, key=lambda record: record.opened_event_log_seq, default=None)

    @property
    def rollouts(self) -> Mapping[str, RolloutRecord]:
        """Every rollout by its id, in the order of opening. Raises: UnknownName, for an id that has none."""
        records = self._world.control_plane.state.view.rollouts.values()
        ordered = sorted(records, key=lambda record: record.opened_event_log_seq)
        return ByName("rollout", {str(record.rollout_id): record for record in ordered})

    def explain(self, host: str) -> Mapping[RolloutId, tuple[GateBlock, ...]]:
        """Return every gate that holds `host`, by rollout. Raises: UnknownName, ControlPlaneDown."""
        return self._explanation(host).blocks

    def status_of(self, host: str) -> HostInFleet | None:
        """Return where `host` stands in its rollouts, and what it waits for; `None`: no release names it yet.

        Raises: UnknownName, ControlPlaneDown.
        """
        return self._explanation(host).status

    def _explanation(self, host: str) -> Explanation:
        require_known("host", (host,), self._world.hosts)
        explanation = self._ask(ExplainHost(host))
        assert isinstance(explanation, Explanation), explanation
        return explanation

    def __repr__(self) -> str:
        """Return on one line how large the fleet is, and how much time has passed."""
        hosts, rollouts = len(self._world.hosts), len(self.rollouts)
        return (
            f"<InMemoryFleet of {_count(hosts, 'host')} on {', '.join(self._layouts)}, "
            f"{_count(rollouts, 'rollout')}, after {self._elapsed()}>"
        )

    def _elapsed(self) -> str:
        return self._trace.elapsed(self._world.agenda.now)

    def __str__(self) -> str:
        """Return a table of the hosts and one of the rollouts."""
        lines = [f"after {self._elapsed()}", ""]
        lines += host_table(self.hosts.values())
        if self.rollouts:
            lines += ["", *rollout_table(self.rollouts.values())]
        return "\n".join(lines)

    # What happens by itself.

    def pass_time(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let the fleet run for this long. Raises: InvalidTime."""
        require_arguments(
            "InMemoryFleet.pass_time",
            hours=(hours, float),
            minutes=(minutes, float),
            seconds=(seconds, float),
        )
        self._run(int(_duration(hours * 3600 + minutes * 60 + seconds) * SECOND))

    def _run(self, microseconds: int) -> None:
        self._world.agenda.run_until(self._world.agenda.now + microseconds)

    # What CI does.

    def publish(
        self,
        ref: str,
        *,
        channel: str | None = None,
        closure: str = "",
        broken: Iterable[str] = (),
        broken_after: Mapping[str, float] | None = None,
        behaviour: Mapping[str, ClosureBehaviour] | None = None,
    ) -> RolloutId:
        """Publish the signed release `ref`, and return the id of the rollout that it will open.

        channel: default: the only one. closure: what every host gets; default: each host its own, `{ref}-{host}`.
        broken: hosts on which the enforce probe fails from the start. broken_after: on which it begins to fail
        this many minutes after the switch. behaviour: anything else that a closure can do on a host.
        Raises: UnknownName, RefTwice, InvalidRolloutId.
        """
        require_arguments(
            "InMemoryFleet.publish",
            ref=(ref, str),
            closure=(closure, str),
            broken=(broken, Iterable[str]),
            broken_after=(broken_after, Mapping[str, float] | None),
            behaviour=(behaviour, Mapping[str, ClosureBehaviour] | None),
        )
        broken = tuple(broken)
        require_arguments("InMemoryFleet.publish", broken=(broken, tuple[str, ...]))
        channel = self._channel(channel)
        rollout_id = RolloutId(f"{channel}@{ref}")
        if (channel, ref) in self._refs:
            raise RefTwice(channel, ref)
        behaviours = _behaviours(broken, broken_after or {}, behaviour or {})
        require_known("host", behaviours, self._layouts[channel].hosts)
        self._refs.add((channel, ref))
        self._note("; ".join([f"publishes {rollout_id}", *_odd(behaviours)]))
        self._acts.release(Release(0, channel, ref, closure, tuple(behaviours.items())))
        return rollout_id

    def _channel(self, channel: str | None) -> str:
        require_arguments("InMemoryFleet", channel=(channel, str | None))
        if channel is None and len(self._layouts) == 1:
            return next(iter(self._layouts))
        if channel not in self._layouts:
            raise UnknownName("channel", channel or "", self._layouts)
        return channel

    # What operators do.

    def pause(self, scope: str | None = None, reason: str = "paused by hand") -> None:
        """Hold all dispatches of `scope`: a channel (default: the only one) or a rollout.

        The control plane knows a channel once it has read its first release, some seconds after `publish`.
        Raises: UnknownName, CommandRefused, ControlPlaneDown.
        """
        self._order(PauseScope(self._scope(scope), OPERATOR, reason))

    def resume(self, scope: str | None = None, reason: str = "resumed by hand") -> None:
        """End the pause of `scope`. Raises: as `pause`."""
        self._order(ResumeScope(self._scope(scope), OPERATOR, reason))

    def clear(
        self, rollout: str, *, excuse: Iterable[str] = (), reason: str = "cleared by hand"
    ) -> None:
        """Let the halted `rollout` continue without the hosts in `excuse`; none: without those that failed.

        Raises: UnknownName, CommandRefused, ControlPlaneDown.
        """
        require_arguments(
            "InMemoryFleet.clear", rollout=(rollout, str), excuse=(excuse, Iterable[str])
        )
        excused = frozenset(excuse)
        require_known("host", excused, self._world.hosts)
        rollout_id = self.rollouts[rollout].rollout_id
        self._order(ClearRollout(rollout_id, OPERATOR, reason, excused))

    def retire_quarantine(
        self, closure: str, *, channel: str | None = None, reason: str = "retired by hand"
    ) -> None:
        """Allow `closure` on `channel` again. Raises: UnknownName, CommandRefused, ControlPlaneDown."""
        require_arguments("InMemoryFleet.retire_quarantine", closure=(closure, str))
        self._order(RetireQuarantine(self._channel(channel), closure, OPERATOR, reason))

    def _scope(self, scope: str | None) -> HoldScope:
        require_arguments("InMemoryFleet", scope=(scope, str | None))
        if scope is not None and "@" in scope:
            return parse_scope(self.rollouts[scope].rollout_id)
        return parse_scope(self._channel(scope))

    def _order(self, command: OperatorCommand) -> None:
        require_arguments("InMemoryFleet", reason=(command.reason, str))
        outcome = self._ask(command)
        assert isinstance(outcome, CommandOutcome), outcome
        if outcome.refusal is not None:
            raise CommandRefused(command, outcome.refusal)

    def _ask(self, input: Input) -> Reply:
        """Hand `input` to the control plane, and run until it is answered: some milliseconds."""
        if not self._world.control_plane.is_up:
            raise ControlPlaneDown
        replies: list[Reply] = []
        self._world.control_plane.post(input, replies.append, _raise, is_urgent=True)
        until = self._world.agenda.now + _ANSWERED_WITHIN
        while not replies and self._world.agenda.now < until:
            self._run(_LOOK_EVERY)
        if not replies:
            raise ControlPlaneDown  # It died of a crash that was put down before.
        return replies[0]

    # What happens to machines and processes. node: a host or `control-plane`.

    def switch_off(self, node: str) -> None:
        """Cut the power of `node`: its process ends, a switch under way is broken off. Raises: UnknownName."""
        self._stop(node, power=True)
        self._note(f"switches {node} off")

    def switch_on(self, node: str) -> None:
        """Start `node` again. Raises: UnknownName."""
        self._require_node(node)
        self._note(f"switches {node} on")
        self._acts.start(node)

    def restart(self, node: str) -> None:
        """Restart the process of `node`; a host's switch under way continues. Raises: UnknownName."""
        self._stop(node, power=False)
        self._note(f"restarts {node}")
        self._acts.start(node)

    def reboot(self, host: str) -> None:
        """Restart the machine: what was set to boot runs afterwards. Raises: UnknownName."""
        self.switch_off(host)
        self.switch_on(host)

    def crash(self, node: str, boundary: Boundary, *, back_after_seconds: float = 60) -> None:
        """Let `node` die the next time it crosses `boundary`, and start again later. Raises: UnknownName."""
        require_arguments(
            "InMemoryFleet.crash",
            boundary=(boundary, Boundary),
            back_after_seconds=(back_after_seconds, float),
        )
        self._require_node(node)
        self._note(f"crashes {node}: {_name(boundary)}")
        self._acts.do(Crash(0, node, boundary, back_after_seconds))

    def lose_database(self, *, back_after_seconds: float = 60) -> None:
        """Replace the control plane's database by an empty one, and start it again later."""
        self._note("loses the control plane's database")
        self._acts.do(LoseDisk(0, CONTROL_PLANE, back_after_seconds))

    def cut_off(self, host: str, *, minutes: float, direction: Direction = Direction.BOTH) -> None:
        """Cut the network between `host` and the control plane for this long. Raises: UnknownName, InvalidTime."""
        require_arguments(
            "InMemoryFleet.cut_off", minutes=(minutes, float), direction=(direction, Direction)
        )
        require_known("host", (host,), self._world.hosts)
        self._note(f"cuts {host} off for {minutes:g} min: {_name(direction)}")
        self._acts.do(Partition(0, host, _duration(minutes * 60), direction))

    def _stop(self, node: str, *, power: bool) -> None:
        self._require_node(node)
        self._world.node(node).die()
        if power and node in self._world.hosts:
            self._world.hosts[node].machine.lose_power()

    def _require_node(self, node: str) -> None:
        require_known("host", (node,), (CONTROL_PLANE, *self._world.hosts))

    def _note(self, what: str) -> None:
        self._trace.add(self._world.agenda.now, "you", Kind.ACT, what)


def _duration(seconds: float) -> float:
    """Return `seconds`. Raises: InvalidTime, when it is not a positive, finite number."""
    if not 0 < seconds < float("inf"):
        raise InvalidTime(seconds)
    return seconds


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _behaviours(
    broken: Iterable[str], broken_after: Mapping[str, float], others: Mapping[str, ClosureBehaviour]
) -> dict[str, ClosureBehaviour]:
    late = {
        host: ClosureBehaviour(health=Health.BAD_LATER, late_seconds=int(minutes * 60))
        for host, minutes in broken_after.items()
    }
    ill = dict.fromkeys(broken, ClosureBehaviour(health=Health.BAD))
    return dict(sorted({**ill, **late, **others}.items()))


def _odd(behaviours: Mapping[str, ClosureBehaviour]) -> Iterator[str]:
    """Yield, for each host, in what its closure differs from a good one."""
    for host, behaviour in behaviours.items():
        ways = (
            ("switch", behaviour.switch, GOOD.switch),
            ("rollback", behaviour.rollback, GOOD.rollback),
            ("health", behaviour.health, GOOD.health),
        )
        yield " ".join([host, *(f"{what}={_name(way)}" for what, way, good in ways if way != good)])


def _name(member: Enum) -> str:
    return member.name.lower().replace("_", "-")


def _raise(error: Exception) -> None:
    raise error


def _close(world: World, directory: Path) -> None:
    world.close()
    shutil.rmtree(directory, ignore_errors=True)
