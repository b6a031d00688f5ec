"""Switches and rollbacks, one at a time: what `workers.intents` does, in virtual time."""

from collections import deque
from collections.abc import Callable
from functools import partial

from nixfleet_agent.activation.activator import RollbackFinished, SwitchOutcome
from nixfleet_agent.messages.inputs import (
    Intent,
    IntentKind,
    Reply,
    RollbackEnded,
    SwitchEnded,
    SwitchStarted,
)
from nixfleet_simulation.nodes.host.posting import Lock
from nixfleet_simulation.nodes.host.shell import WorkerShell

SWITCH_METHOD = "simulated"


class IntentWorker:
    """A queue of intents. began: called with each that begins.

    at_rest: held from before an act begins until what came of it is durable.
    """

    def __init__(self, shell: WorkerShell, began: Callable[[Intent], None]) -> None:
        self._is_busy = False
        self.at_rest = Lock()
        self._shell = shell
        self._began = began
        self._waiting: deque[Intent] = deque()

    def add(self, intent: Intent) -> None:
        """Carry out `intent` when those before it are over."""
        self._waiting.append(intent)
        if not self._is_busy:
            self._is_busy = True
            self._shell.after(0, self._next)

    def _next(self) -> None:
        if self._waiting:
            self.at_rest.acquire(self._act)
        else:
            self._is_busy = False

    def _act(self) -> None:
        intent = self._waiting.popleft()
        self._began(intent)
        if intent.kind is IntentKind.ROLLBACK:
            self._roll_back(intent)
        elif self._shell.machine.running != intent.closure:
            started = SwitchStarted(intent.intent_id, SWITCH_METHOD)
            self._shell.insist(started, lambda _: self._switch(intent))
        else:
            self._switch(intent)

    def _switch(self, intent: Intent) -> None:
        ended = partial(self._switched, intent)
        self._shell.machine.switch(self._shell.life, intent.closure, ended)

    def _roll_back(self, intent: Intent) -> None:
        ended = partial(self._rolled_back, intent)
        self._shell.machine.rollback(self._shell.life, intent.closure, ended)

    def _switched(self, intent: Intent, outcome: SwitchOutcome) -> None:
        self._shell.insist(SwitchEnded(intent.intent_id, outcome), self._over)

    def _rolled_back(self, intent: Intent, outcome: RollbackFinished) -> None:
        self._shell.insist(RollbackEnded(intent.intent_id, outcome), self._over)

    def _over(self, _: Reply) -> None:
        self.at_rest.release()
        self._next()
