"""The worlds within some bounds and the moves between them, packed so that millions fit.

A world is an integer: the number of its control plane, then the number of each host's agent. What a part can do is
worked out once: nothing that happens on a host looks at the control plane, and nothing that the control plane makes
of an input looks at the hosts. To walk is then to look up and to add.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_state_machine.host.errors import TransitionError
from nixfleet_state_machine.rollout.errors import RolloutTransitionError, SupersessionExpected
from nixfleet_state_machine.rollout.state import Standing
from nixfleet_testing.course.reducer_set import ReducerSet
from nixfleet_testing.explore import amended_laws, hosts, laws
from nixfleet_testing.explore.bounds import Bounds
from nixfleet_testing.explore.engine import Engine, PlanEndless, Turn, unsettled
from nixfleet_testing.explore.inputs import Hear, Input, commands
from nixfleet_testing.explore.laws import Breach, Law
from nixfleet_testing.explore.world import Agent, ControlPlane, Seats

T = TypeVar("T")

AGENT_BITS = 20
_AGENT_MASK = (1 << AGENT_BITS) - 1

World: TypeAlias = int

Move: TypeAlias = tuple[World, int | None, str]
"""The world that comes next, and what happened, in words: to the host in this place, or to all."""


class Broken(Exception):
    """A law does not hold. host, what: the move that broke it, as in `Move`; `None`: the world as it is does.

    did: what the control plane did in response.
    """

    def __init__(
        self,
        breach: Breach,
        host: int | None = None,
        what: str | None = None,
        did: tuple[str, ...] = (),
    ) -> None:
        super().__init__(breach, host, what, did)
        self.law, self.found = breach
        self.host = host
        self.what = what
        self.did = did


class _Prospect(NamedTuple):
    """What is next for a host. acts: the agent after each. arrivals: facts that the control plane hears next."""

    acts: tuple[tuple[int, str], ...]
    arrivals: tuple[tuple[int, str], ...]


class _Numbered(Generic[T]):
    """Equal values have one number, given in order of appearance."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}

    def __contains__(self, value: T) -> bool:
        return value in self._numbers

    def __getitem__(self, number: int) -> T:
        return self.values[number]

    def number(self, value: T) -> int:
        """Return the number of `value`."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


class Space:
    """Every part that was met so far, and what it can do."""

    def __init__(self, bounds: Bounds, machine: ReducerSet, *, symmetric: bool) -> None:
        self.bounds = bounds
        self._machine = machine
        self._agents = _Numbered[Agent]()
        self._control_planes = _Numbered[ControlPlane]()
        self._seats = _Numbered[Seats]()
        self._facts = _Numbered[tuple[int, AgentEvent]]()
        # By control plane: the seats of each host; the control plane after each arrival and each command.
        self._seats_of: list[tuple[int, ...]] = []
        self._heard: list[dict[tuple[int, int], int]] = []
        self._commanded: list[list[tuple[int, str]] | None] = []
        # By host, as seats and agent together say.
        self._prospects: dict[int, _Prospect] = {}
        self._judged: set[int] = set()
        self._did: dict[tuple[int, int], tuple[str, ...]] = {}
        self._swapped: dict[tuple[int, int], int] = {}
        self._shifts = tuple(AGENT_BITS * host for host in range(bounds.hosts))
        self._top = AGENT_BITS * bounds.hosts
        self.worst = self._worst()
        self.failed_most = 0
        self._twins = [(host, self._shifts[host]) for host in bounds.twins if symmetric]
        agent = self._agents.number(Agent((None,) * bounds.releases))
        empty = self._control_plane_number(ControlPlane(((),) * bounds.hosts))
        self._engine = empty, Engine(bounds, machine, self._control_planes[empty])
        self.start: World = empty << self._top | sum(agent << shift for shift in self._shifts)

    def moves(self, world: World) -> list[Move]:
        """Return what hosts, machines and the wire may do next. Raises: Broken."""
        found: list[Move] = []
        control_plane = world >> self._top
        for host, situation in enumerate(self._situations(world)):
            prospect = self._prospects.get(situation)
            if prospect is None:
                prospect = self._prospects[situation] = self._prospect(situation, host)
            agent = situation & _AGENT_MASK
            for after, what in prospect.acts:
                found.append((world + ((after - agent) << self._shifts[host]), host, what))
            for fact, what in prospect.arrivals:
                heard = self._heard[control_plane].get((host, fact))
                if heard is None:
                    heard = self._hear(control_plane, host, fact, what)
                found.append((world + ((heard - control_plane) << self._top), host, what))
        return found

    def commands(self, world: World) -> list[Move]:
        """Return what CI and operators may do next. Raises: Broken."""
        control_plane = world >> self._top
        known = self._commanded[control_plane]
        if known is None:
            before = self._control_planes[control_plane]
            known = [
                (self._turn(control_plane, command, None, what), what)
                for command, what in commands(self.bounds, before)
            ]
            self._commanded[control_plane] = known
        return [
            (world + ((after - control_plane) << self._top), None, what) for after, what in known
        ]

    def judge(self, world: World) -> None:
        """Hold each host of `world` against what the control plane has of it. Raises: Broken."""
        for situation in self._situations(world):
            if situation not in self._judged:
                agent, seats = self._parts(situation)
                _raise_first(laws.of_host(self._machine, self.bounds, agent, seats))
                self._judged.add(situation)

    def judge_rest(self, world: World) -> None:
        """Judge a world in which hosts and wire have nothing left to do. Raises: Broken."""
        _raise_first(laws.of_rest(self.bounds, self._control_planes[world >> self._top]))

    def representative(self, world: World) -> World:
        """Return the one world that stands for all those that differ only in which twin is which."""
        while True:
            seats = self._seats_of[world >> self._top]
            for host, shift in self._twins:
                if seats[host - 1] < seats[host]:
                    continue
                gap = (world >> shift & _AGENT_MASK) - (world >> shift - AGENT_BITS & _AGENT_MASK)
                if seats[host - 1] > seats[host] or gap < 0:
                    break
            else:
                return world
            world = self._with_swapped(world, host, gap)

    def did(self, before: World, after: World) -> tuple[str, ...]:
        """Return what the control plane did from `before` to `after`, in words."""
        return self._did.get((before >> self._top, after >> self._top), ())

    def _situations(self, world: World) -> list[int]:
        """Return, for each host, its seats and its agent as one number."""
        seats = self._seats_of[world >> self._top]
        return [
            seats[host] << AGENT_BITS | world >> shift & _AGENT_MASK
            for host, shift in enumerate(self._shifts)
        ]

    def _parts(self, situation: int) -> tuple[Agent, Seats]:
        return self._agents[situation & _AGENT_MASK], self._seats[situation >> AGENT_BITS]

    # What hosts do.

    def _prospect(self, situation: int, host: int) -> _Prospect:
        agent, seats = self._parts(situation)
        behind = [
            (release, life.facts[seats[release].record.last_event_seq :])
            for release, life in enumerate(agent.lives)
            # What a host tells of a rollout that it left is not taken.
            if life is not None and seats[release].standing is not Standing.LEFT
        ]
        arrivals = [
            (self._facts.number((release, facts[0])), self._arrival(release, facts[0]))
            for release, facts in behind
            if facts
        ]
        limit = self.bounds.on_the_way
        has_room = limit is None or sum(len(facts) for _, facts in behind) < limit
        acts = self._acts(agent, seats, host) if has_room else ()
        return _Prospect(tuple(acts), tuple(arrivals))

    def _arrival(self, release: int, fact: AgentEvent) -> str:
        rollout_id = self.bounds.terms[release].rollout_id
        return f"is heard: {type(fact).__name__}, seq {fact.seq} of {rollout_id}"

    def _acts(self, agent: Agent, seats: Seats, host: int) -> Iterator[tuple[int, str]]:
        try:
            for what, after in chain(
                hosts.taken(self.bounds, self._machine, agent, seats),
                hosts.acts(self.bounds, self._machine, agent),
            ):
                if after not in self._agents:
                    _raise_first(laws.of_agent(after), host, what)
                number = self._agents.number(after)
                assert number <= _AGENT_MASK, "too many agents: raise AGENT_BITS"
                yield number, what
        except TransitionError as error:
            breach = Law.NOTHING_REFUSED, str(error)
            raise Broken(breach, host, f"lives {type(error.fact).__name__}") from error

    # What the control plane does.

    def _hear(self, number: int, host: int, fact: int, what: str) -> int:
        release, heard = self._facts[fact]
        after = self._turn(number, Hear(host, release, heard), host, what)
        self._heard[number][host, fact] = after
        return after

    def _turn(self, number: int, input: Input, host: int | None, what: str) -> int:
        before = self._control_planes[number]
        try:
            turned = self._engine_at(number).turn(input)
        except (TransitionError, RolloutTransitionError, SupersessionExpected) as error:
            raise Broken((Law.NOTHING_REFUSED, str(error)), host, what) from error
        except PlanEndless as error:
            raise Broken((Law.PLAN_ENDS, str(error)), host, what) from error
        for breach in self._breaches(before, input, turned):
            raise Broken(breach, host, what, turned.did)
        after = self._control_plane_number(turned.after)
        self._did[number, after] = turned.did
        return after

    def _breaches(self, before: ControlPlane, input: Input, turned: Turn) -> Iterator[Breach]:
        yield from laws.of_turn(self.bounds, before, input, turned.after)
        yield from amended_laws.of_turn(self.bounds, before, input, turned.after)
        if turned.disagreement is not None:
            yield Law.ONE_PLAN, turned.disagreement
        if turned.after not in self._control_planes:
            failed = laws.failed_of(self.bounds, turned.after)
            self.failed_most = max(self.failed_most, failed)
            worst = self.bounds.hosts if self.worst is None else self.worst
            yield from laws.of_control_plane(self.bounds, turned.after, worst)
            left = unsettled(self.bounds, self._machine, turned.after)
            if left is not None:
                yield Law.ONE_PLAN, left
            yield from laws.of_idleness(self.bounds, turned.after)

    def _worst(self) -> int | None:
        """Return how many hosts may have failed at most; `None`: what is computed is not of such a world."""
        bounds = self.bounds
        if (
            bounds.clear
            or bounds.deferral
            or bounds.edges
            or bounds.releases > 1
            or bounds.deadline
            or bounds.on_drift
            or bounds.leaver
        ):
            return None
        return self._machine.worst_failed(bounds.terms[0], bounds.policy)

    def _engine_at(self, number: int) -> Engine:
        """Return an engine that stands there. The last one is kept: it is asked for several times in a row."""
        if self._engine[0] != number:
            before = self._control_planes[number]
            self._engine = number, Engine(self.bounds, self._machine, before)
        return self._engine[1]

    def _control_plane_number(self, value: ControlPlane) -> int:
        number = self._control_planes.number(value)
        if number == len(self._seats_of):
            self._seats_of.append(tuple(map(self._seats.number, value.seats)))
            self._heard.append({})
            self._commanded.append(None)
        return number

    # Twins.

    def _with_swapped(self, world: World, host: int, gap: int) -> World:
        """Return `world` with `host` and its twin swapped. gap: from the twin's agent to the host's."""
        number = world >> self._top
        after = self._swapped.get((number, host))
        if after is None:
            swapped = self._control_planes[number].swapped(host - 1, host)
            after = self._swapped[number, host] = self._control_plane_number(swapped)
        moved = (gap << self._shifts[host - 1]) - (gap << self._shifts[host])
        return world + ((after - number) << self._top) + moved


def _raise_first(
    breaches: Iterable[Breach], host: int | None = None, what: str | None = None
) -> None:
    for breach in breaches:
        raise Broken(breach, host, what)
