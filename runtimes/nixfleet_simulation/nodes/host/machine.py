"""A host's machine: what runs, what boots, the outcomes of switches, rollbacks and probes. Not the agent.

It outlives the agent's process: a switch continues when the agent dies, as one under systemd does, and is
interrupted when the machine loses power. A repeated switch checks what is running first, as every activator must.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias, assert_never

from nixfleet_agent.activation.activator import (
    EXIT_CODE_OF_AGENT,
    ClosureMismatch,
    ClosureNotHere,
    Prepared,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchEnd,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.probes.runner import PASSED, ProbeOutcome
from nixfleet_proto.agent_event import ProbeMode, ProbeStatus, ProbeSubResult
from nixfleet_simulation.nodes.agenda import MINUTE, SECOND, Agenda, NodeLifetime
from nixfleet_simulation.scenario.closure_behaviour import (
    GOOD,
    ClosureBehaviour,
    Health,
    RollbackResult,
    SwitchResult,
)
from nixfleet_simulation.scenario.randomness import Random

FIRST_CLOSURE = "closure-0"
SWITCH_SECONDS = (2.0, 40.0)
HANG = 5 * MINUTE
LATE = 2 * MINUTE
FLAP = 45 * SECOND
CONTROL_FRAMEWORK = "nis2"

SwitchEnds: TypeAlias = Callable[[SwitchEnd], None]
RollbackEnds: TypeAlias = Callable[[RollbackFinished], None]


class SimulatedMachine:
    """One host's machine.

    behaviours: of closures on this host; filled as they are released. without_closures: how many faults keep it from
    fetching closures.
    """

    def __init__(
        self, agenda: Agenda, rng: Random, behaviours: Mapping[str, ClosureBehaviour]
    ) -> None:
        self.running = FIRST_CLOSURE
        self.boots = FIRST_CLOSURE
        self.running_since = 0
        self._agenda = agenda
        self._rng = rng
        self._behaviours = behaviours
        self._power = NodeLifetime()
        self._work: tuple[str, int] | None = None
        self._tries = Counter[str]()
        self._fetched = {FIRST_CLOSURE}
        self.without_closures = 0

    @property
    def is_at_work(self) -> bool:
        """Whether a switch or a rollback is under way."""
        return self._work is not None

    @property
    def is_cut_off(self) -> bool:
        """Whether what runs keeps the machine from reaching anything."""
        return self._behaviour(self.running).cuts_network

    def lose_power(self) -> None:
        """Restart with the closure that was set to boot; interrupt what was under way."""
        self._power.is_over = True
        self._power = NodeLifetime()
        self._work = None
        self._run(self.boots)

    # Switches.

    def prepare(self, closure: str) -> Prepared | ClosureNotHere:
        """Return whether the closure is here; what was here stays."""
        if self.without_closures and closure not in self._fetched:
            return ClosureNotHere("no substituter answers")
        self._fetched.add(closure)
        return Prepared(closure)

    def switch(
        self,
        agent: NodeLifetime,
        closure: str,
        ends: SwitchEnds,
        time_limit_seconds: float | None = None,
    ) -> None:
        """Switch to `closure`; call `ends` with the outcome, unless the agent's process `agent` has died.

        time_limit_seconds: when a switch that hangs is given up at the latest.
        """
        if self.running == closure and self._work is None:
            self._agenda.after(SECOND, agent, ends, SwitchCompleted(closure, 0))
            return
        if self._work is None or self._work[0] != f"switch {closure}":
            self._tries[closure] += 1
        way = self._behaviour(closure).switch
        finish = partial(self._end_switch, closure, way)
        limit = HANG
        if time_limit_seconds is not None:
            limit = min(HANG, int(time_limit_seconds * SECOND))
        self._begin(f"switch {closure}", limit if way is SwitchResult.HANGS else None, finish)
        self._report_at_end(agent, partial(self._switch_outcome, closure, way), ends)

    def rollback(self, agent: NodeLifetime, closure: str, ends: RollbackEnds) -> None:
        """Roll back to `closure`; as `switch`."""
        if self.running == closure and self._work is None:
            self.boots = closure
            self._agenda.after(SECOND, agent, ends, RollbackFinished(closure, 0))
            return
        way = self._behaviour(self.running).rollback
        finish = partial(self._end_rollback, closure, way)
        self._begin(f"rollback {closure}", HANG if way is RollbackResult.HANGS else None, finish)
        self._report_at_end(agent, partial(self._rollback_outcome, closure, way), ends)

    def _begin(self, name: str, hangs_for: int | None, finish: Callable[[], None]) -> None:
        """Begin work, unless the same work is under way. hangs_for: `None`: it does not hang."""
        if self._work is not None and self._work[0] == name:
            return
        takes = hangs_for
        if takes is None:
            takes = int(self._rng.uniform(*SWITCH_SECONDS) * SECOND)
        self._work = name, self._agenda.now + takes
        self._agenda.after(takes, self._power, finish)

    def _report_at_end(
        self, agent: NodeLifetime, outcome: Callable[[], object], ends: Callable[..., None]
    ) -> None:
        assert self._work is not None
        wait = self._work[1] - self._agenda.now + 1
        self._agenda.after(wait, agent, lambda: ends(outcome()))

    def _end_switch(self, closure: str, way: SwitchResult) -> None:
        self._work = None
        match way:
            case SwitchResult.WORKS | SwitchResult.FAILS_HALF_WAY:
                self.boots = closure
                self._run(closure)
            case SwitchResult.WAITS_FOR_REBOOT | SwitchResult.HANGS:
                self.boots = closure
            case SwitchResult.ENDS_ON_A_THIRD_CLOSURE:
                self._run(f"third-{closure}")
            case SwitchResult.FAILS_BEFORE_ANY_CHANGE | SwitchResult.CONTENTS_DIFFER_FROM_NAME:
                pass
            case _:
                assert_never(way)

    def _switch_outcome(self, closure: str, way: SwitchResult) -> SwitchEnd:
        match way:
            case SwitchResult.WORKS:
                return SwitchCompleted(closure, 0)
            case SwitchResult.FAILS_HALF_WAY:
                return SwitchFailed(SwitchPhase.SWITCH, 4, "a unit failed to start")
            case SwitchResult.HANGS:
                return SwitchFailed(SwitchPhase.CONFIRM, 124, "it did not end in time")
            case SwitchResult.WAITS_FOR_REBOOT:
                return SwitchDeferred("kernel")
            case SwitchResult.ENDS_ON_A_THIRD_CLOSURE:
                return ClosureMismatch(closure, f"third-{closure}")
            case SwitchResult.FAILS_BEFORE_ANY_CHANGE:
                return SwitchFailed(SwitchPhase.PROFILE_SET, 1, "no space left")
            case SwitchResult.CONTENTS_DIFFER_FROM_NAME:
                return ClosureMismatch(closure, f"other-{closure}")
            case _:
                assert_never(way)

    def _end_rollback(self, closure: str, way: RollbackResult) -> None:
        self._work = None
        if way is RollbackResult.WORKS:
            self.boots = closure
            self._run(closure)

    def _rollback_outcome(self, closure: str, way: RollbackResult) -> RollbackFinished:
        match way:
            case RollbackResult.WORKS:
                return RollbackFinished(closure, 0)
            case RollbackResult.FAILS:
                return RollbackFinished(self.running, 1, "a unit failed to stop")
            case RollbackResult.HANGS:
                return RollbackFinished(self.running, EXIT_CODE_OF_AGENT, "it did not end in time")
            case _:
                assert_never(way)

    def _run(self, closure: str) -> None:
        self.running = closure
        self.running_since = self._agenda.now

    # Probes.

    def probe(self, mode: ProbeMode) -> ProbeOutcome | None:
        """Return the outcome of a probe of the running closure; `None` when it hangs."""
        behaviour = self._behaviour(self.running)
        health = behaviour.health
        lasted = self._agenda.now - self.running_since
        match health:
            case Health.GOOD | Health.UNREADABLE:
                return PASSED
            case Health.BAD:
                return _ILL
            case Health.BAD_LATER:
                return _ILL if lasted > behaviour.late_seconds * SECOND else PASSED
            case Health.FLAPPING:
                return _ILL if lasted // FLAP % 2 else PASSED
            case Health.OBSERVED_FAILS:
                return _ILL if mode is ProbeMode.OBSERVE else PASSED
            case Health.SILENT:
                return None
            case Health.CONTROL_FAILS:
                return _LAX if lasted < 2 * LATE else _STRICT
            case _:
                assert_never(health)

    def checks_can_be_read(self, closure: str) -> bool:
        """Return whether the health checks of `closure` can be decoded."""
        return self._behaviour(closure).health is not Health.UNREADABLE

    def _behaviour(self, closure: str) -> ClosureBehaviour:
        behaviour = self._behaviours.get(closure, GOOD)
        is_over = 0 < behaviour.times < self._tries[closure]
        return GOOD if is_over else behaviour


_ILL = ProbeOutcome(ProbeStatus.FAIL, "expected exit code 0 within 10 s, found 1 from bin/alive")
_LAX = ProbeOutcome(
    ProbeStatus.PASS, None, (ProbeSubResult("4.1", ProbeStatus.FAIL, CONTROL_FRAMEWORK),)
)
_STRICT = ProbeOutcome(
    ProbeStatus.PASS, None, (ProbeSubResult("4.1", ProbeStatus.PASS, CONTROL_FRAMEWORK),)
)
