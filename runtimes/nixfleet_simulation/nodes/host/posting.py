"""Where workers hand in what they found, in virtual time: what `workers.desk` does, and a lock as it has them."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from nixfleet_agent.messages.inputs import Action, Input, Reply
from nixfleet_agent.messages.writes import Write
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.clock import NodeClock
from nixfleet_simulation.nodes.mutator import Mutator
from nixfleet_simulation.scenario.randomness import Chance

AgentMutator: TypeAlias = Mutator[Input, Write, Reply, Action]


class SimulatedPost:
    """What all workers of one agent post through."""

    def __init__(
        self,
        mutator: AgentMutator,
        agenda: Agenda,
        life: NodeLifetime,
        clock: NodeClock,
        chance: Chance,
    ) -> None:
        self._mutator = mutator
        self._agenda = agenda
        self._life = life
        self._backoff = Backoff(clock, chance.random)

    def insist(self, input: Input, then: Callable[[Reply], None]) -> None:
        """Hand in `input`, however often it takes until it is durable."""
        self._mutator.post(input, partial(self._done, then), partial(self._again, input, then))

    def try_once(self, input: Input, then: Callable[[Reply | None], None]) -> None:
        """Hand in `input`; `then` gets `None` if it could not be made durable."""
        self._mutator.post(input, partial(self._done, then), lambda _: then(None))

    def _done(self, then: Callable[[Reply], None], reply: Reply) -> None:
        self._backoff.reset()
        then(reply)

    def _again(self, input: Input, then: Callable[[Reply], None], _: Exception) -> None:
        wait = int(self._backoff.next_seconds() * SECOND)
        self._agenda.after(wait, self._life, self.insist, input, then)


class Lock:
    """Held by one at a time; those who wait get it in order."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting: deque[Callable[[], None]] = deque()

    def acquire(self, then: Callable[[], None]) -> None:
        """Call `then` once the lock is held for it; it must `release`."""
        if self._is_held:
            self._waiting.append(then)
        else:
            self._is_held = True
            then()

    def acquire_now(self) -> bool:
        """Return whether it is held now for who asks; it was free then."""
        if self._is_held:
            return False
        self._is_held = True
        return True

    def release(self) -> None:
        """Let the next one have it."""
        if self._waiting:
            self._waiting.popleft()()
        else:
            self._is_held = False
