"""The contract of an activator: `current` is what runs, and switch and rollback are idempotent.

Subclass `ActivatorContract`, return a machine, and run pytest. A machine has closures whose
switches behave as the test says, with real programs or with fakes; each activator it returns is
that of an agent that has just started.
Source: docs/spec/runtimes.md, Activators.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from nixfleet_agent.activation.activator import (
    Activator,
    ClosureMismatch,
    ClosureNotHere,
    NoRunningClosure,
    Prepared,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
)
from nixfleet_testing.contracts.event_loop import ASYNCIO, ends_within, in_event_loop, in_loop_of

PATIENCE_SECONDS = 10.0


class SwitchBehaviour(StrEnum):
    """How a switch to a closure ends."""

    SUCCEEDS = "succeeds"
    FAILS = "fails"
    DEFERRED = "is-deferred"
    """It says that it takes effect at the next boot."""
    STUCK_ONCE = "is-stuck-once"
    """The first time it does not end before the agent is cancelled; the second time it succeeds."""


class ActivatedMachine(ABC):
    """A machine that your activator moves between closures. Nothing runs on it at first."""

    @abstractmethod
    def activator(self) -> Activator:
        """Return the activator of an agent that starts now. There may have been others before it."""

    @abstractmethod
    def add(self, name: str, behaviour: SwitchBehaviour = SwitchBehaviour.SUCCEEDS) -> str:
        """Put a closure into the store and return its name. Call `pytest.skip` if your machine cannot do that."""

    @abstractmethod
    async def boot(self, closure: str) -> None:
        """Make `closure` the running one."""

    @abstractmethod
    def switched(self) -> Sequence[str]:
        """Return the closures to which a switch really began since `boot`, in order."""

    @abstractmethod
    async def until_stuck(self) -> None:
        """Return when a switch that is `STUCK_ONCE` has begun."""

    def unknown(self) -> str:
        """Return the name of a closure that does not exist."""
        return "0" * 32 + "-nowhere"

    def withhold(self, closure: str) -> Callable[[], None]:
        """Take `closure` out of reach, as if it had not been delivered yet; return what delivers it."""
        pytest.skip("this machine cannot take a closure out of reach")

    def spoil(self, closure: str) -> None:
        """Change the content of `closure` in the store. Override it unless your store checks its content itself."""
        pytest.skip("the store of this machine checks its closures itself")


class ActivatorContract(ABC):
    """What every `Activator` must do. Subclass it as `class TestMyActivator(ActivatorContract)`."""

    backend: ClassVar[str] = ASYNCIO
    """The event loop that your activator runs in: "asyncio" or "trio"."""

    @abstractmethod
    def make_machine(self, directory: Path) -> ActivatedMachine:
        """Return a new machine, which may use `directory`."""

    # What runs.

    def test_it_says_how_it_switches_and_where_closures_are(self, tmp_path: Path) -> None:
        """The method goes into every `ActivationStarted`; health checks are looked for under the root."""
        machine = self.make_machine(tmp_path)
        closure = machine.add("closure")
        method, root = machine.activator().switch_method, machine.activator().root_of(closure)
        assert isinstance(method, str), f"`switch_method` must be a word, found {method!r}"
        assert method, "`switch_method` must be a word, found none"
        assert isinstance(root, Path), f"`root_of` must return a path, found {root!r}"
        assert machine.activator().root_of(machine.unknown()) != root, (
            f"`root_of` returns {root} for a closure that is there and for one that is not"
        )

    @in_event_loop
    async def test_a_machine_on_which_nothing_runs_says_so(self, tmp_path: Path) -> None:
        """`current` raises NoRunningClosure."""
        try:
            found = await self.make_machine(tmp_path).activator().current()
        except NoRunningClosure:
            return
        raise AssertionError(
            f"nothing runs: expected NoRunningClosure from `current()`, found {found!r}"
        )

    @in_event_loop
    async def test_a_switch_ends_with_the_closure_running(self, tmp_path: Path) -> None:
        """The outcome names the running closure, and so does `current` of every later agent."""
        machine, old, new = await self._machine(tmp_path)
        outcome = await machine.activator().switch(new)
        assert isinstance(outcome, SwitchCompleted), (
            f"expected SwitchCompleted from a switch that succeeds, found {outcome}"
        )
        assert outcome.current_closure == new, f"switched to {new}, and the outcome says {outcome}"
        await _require_running(machine, new, f"after a switch from {old} that ended well")
        assert list(machine.switched()) == [new], (
            f"one switch was ordered, {machine.switched()} began"
        )

    @in_event_loop
    async def test_preparing_changes_nothing_that_runs(self, tmp_path: Path) -> None:
        """A closure can be fetched and checked long before it is switched to."""
        machine, old, new = await self._machine(tmp_path)
        outcome = await machine.activator().prepare(new)
        assert outcome == Prepared(new), (
            f"a closure that is there and whole was prepared as {outcome}"
        )
        assert list(machine.switched()) == [], f"preparing began a switch to {machine.switched()}"
        await _require_running(machine, old, f"after {new} was prepared and not switched to")

    # Orders given twice.

    @in_event_loop
    async def test_a_switch_ordered_again_after_a_restart_is_not_done_again(
        self, tmp_path: Path
    ) -> None:
        """An agent that does not know whether its switch was done orders it again: check what runs first."""
        machine, _, new = await self._machine(tmp_path)
        await machine.activator().switch(new)
        outcome = await machine.activator().switch(new)
        assert isinstance(outcome, SwitchCompleted), (
            f"a switch to what runs already ended as {outcome}"
        )
        assert list(machine.switched()) == [new], (
            f"a switch that was done already was done again after a restart: {list(machine.switched())}"
        )

    @in_event_loop
    async def test_a_rollback_ordered_again_after_a_restart_is_not_done_again(
        self, tmp_path: Path
    ) -> None:
        """The same holds for rollbacks."""
        machine, old, new = await self._machine(tmp_path)
        await machine.activator().switch(new)
        await machine.activator().rollback(old)
        outcome = await machine.activator().rollback(old)
        assert (outcome.current_closure, outcome.exit_code) == (old, 0), (
            f"a rollback to what runs already ended as {outcome}"
        )
        assert list(machine.switched()) == [new, old], (
            f"a rollback that was done already was done again: {list(machine.switched())}"
        )

    @in_event_loop
    async def test_a_switch_that_was_cancelled_is_finished_when_ordered_again(
        self, tmp_path: Path
    ) -> None:
        """After an agent died in the middle of a switch, ordering it again completes it."""
        machine, old, _ = await self._machine(tmp_path)
        stuck = machine.add("stuck", SwitchBehaviour.STUCK_ONCE)
        first = machine.activator()
        async with anyio.create_task_group() as agent:
            agent.start_soon(first.switch, stuck)
            began = await ends_within(PATIENCE_SECONDS, machine.until_stuck)
            agent.cancel_scope.cancel()
            assert began, f"a switch to {stuck} was ordered and never began"
        outcome = await machine.activator().switch(stuck)
        assert isinstance(outcome, SwitchCompleted), (
            f"ordered again, a cancelled switch ended as {outcome}"
        )
        await _require_running(
            machine, stuck, f"after a switch from {old} was cancelled and ordered again"
        )
        assert list(machine.switched()) in ([stuck], [stuck, stuck]), (
            f"a switch was cancelled and ordered again, and {list(machine.switched())} began"
        )

    @in_event_loop
    async def test_a_switch_that_was_cancelled_does_not_count_as_done(self, tmp_path: Path) -> None:
        """A closure is not reported as running before its switch was completed."""
        machine, old, _ = await self._machine(tmp_path)
        stuck = machine.add("stuck", SwitchBehaviour.STUCK_ONCE)
        async with anyio.create_task_group() as agent:
            agent.start_soon(machine.activator().switch, stuck)
            await ends_within(PATIENCE_SECONDS, machine.until_stuck)
            agent.cancel_scope.cancel()
        await _require_running(machine, old, f"after a switch to {stuck} was cut off in the middle")

    # Failures are values.

    @in_event_loop
    async def test_a_switch_that_fails_is_an_outcome(self, tmp_path: Path) -> None:
        """The outcome has the phase and the reason; `current` is the closure from before."""
        machine, old, _ = await self._machine(tmp_path)
        outcome = await _switch(machine, machine.add("bad", SwitchBehaviour.FAILS))
        assert isinstance(outcome, SwitchFailed), f"a switch that fails ended as {outcome}"
        assert outcome.exit_code != 0, (
            f"a switch that failed must not have exit code 0: {outcome!r}"
        )
        await _require_running(machine, old, "after a switch that failed")

    @in_event_loop
    async def test_a_switch_that_failed_is_tried_again_when_ordered_again(
        self, tmp_path: Path
    ) -> None:
        """A closure whose switch failed does not count as running, whatever it left behind."""
        machine, _, _ = await self._machine(tmp_path)
        bad = machine.add("bad", SwitchBehaviour.FAILS)
        await _switch(machine, bad)
        outcome = await _switch(machine, bad)
        assert isinstance(outcome, SwitchFailed), (
            f"a switch failed, and when it was ordered again the answer was {outcome}"
        )
        assert list(machine.switched()) == [bad, bad], (
            f"the switch that failed was not tried again: {list(machine.switched())} began"
        )

    @in_event_loop
    async def test_a_closure_that_is_not_what_its_name_says_is_not_switched_to(
        self, tmp_path: Path
    ) -> None:
        """What was changed is refused as a value before anything on the machine changes, and is not waited for."""
        machine, old, new = await self._machine(tmp_path)
        machine.spoil(new)
        outcome = await _switch(machine, new)
        assert isinstance(outcome, SwitchFailed | ClosureMismatch), (
            f"a switch to a closure that is spoilt ended as {outcome}"
        )
        assert list(machine.switched()) == [], "a switch to a closure that is spoilt began"
        await _require_running(machine, old, "after a switch to a closure that is spoilt")

    @in_event_loop
    async def test_a_closure_that_is_not_here_is_no_failure(self, tmp_path: Path) -> None:
        """It may come later: `prepare` and `switch` say so, with a reason, and nothing on the machine changes."""
        machine, old, _ = await self._machine(tmp_path)
        prepared = await machine.activator().prepare(machine.unknown())
        switched = await _switch(machine, machine.unknown())
        for outcome in (prepared, switched):
            assert isinstance(outcome, ClosureNotHere), (
                f"expected ClosureNotHere for a closure that is not here, found {outcome!r}; a failure would count "
                "against the release"
            )
            assert outcome.reason, "a closure that is not here must be reported with a reason"
        assert list(machine.switched()) == [], "a switch to a closure that is not here began"
        await _require_running(machine, old, "after a switch to a closure that is not here")

    @in_event_loop
    async def test_a_closure_that_comes_later_is_switched_to(self, tmp_path: Path) -> None:
        """The agent asks again and again: no answer is kept."""
        machine, _, new = await self._machine(tmp_path)
        deliver, activator = machine.withhold(new), machine.activator()
        outcome = await activator.prepare(new)
        assert isinstance(outcome, ClosureNotHere), (
            f"expected ClosureNotHere for a closure that was not delivered yet, found {outcome!r}"
        )
        deliver()
        outcome = await activator.prepare(new)
        assert outcome == Prepared(new), (
            f"a closure was delivered after it had been asked for, and was prepared as {outcome!r}"
        )
        await _switch(machine, new)
        await _require_running(machine, new, "after a switch to a closure that came later")

    @in_event_loop
    async def test_a_deferred_switch_leaves_what_runs(self, tmp_path: Path) -> None:
        """It takes effect at the next boot, and until then the closure from before runs."""
        machine, old, _ = await self._machine(tmp_path)
        outcome = await _switch(machine, machine.add("kernel", SwitchBehaviour.DEFERRED))
        assert isinstance(outcome, SwitchDeferred), f"a deferred switch ended as {outcome}"
        assert outcome.component, "a deferred switch must name the component that cannot be swapped"
        await _require_running(machine, old, "after a switch that was deferred to the next boot")

    # Rollbacks.

    @pytest.mark.parametrize("behaviour", [SwitchBehaviour.SUCCEEDS, SwitchBehaviour.FAILS])
    def test_a_rollback_brings_the_closure_from_before_back(
        self, behaviour: SwitchBehaviour, tmp_path: Path
    ) -> None:
        """The switch may have succeeded or failed."""

        @in_loop_of(self)
        async def roll_back() -> None:
            machine, old, _ = await self._machine(tmp_path)
            left = machine.add("left", behaviour)
            await _switch(machine, left)
            outcome = await _rollback(machine, old)
            assert outcome == RollbackFinished(old, 0), (
                f"expected exit code 0 from a rollback after a switch that {behaviour}, found {outcome!r}"
            )
            began = list(machine.switched())
            assert began == [left, old], (
                f"a rollback after a switch that {behaviour} was not carried out: expected switches to "
                f"{[left, old]}, found {began}; what a failed switch left behind must be replaced"
            )
            await _require_running(machine, old, f"after a rollback from a switch that {behaviour}")

        roll_back()

    @pytest.mark.parametrize("behaviour", [SwitchBehaviour.FAILS, SwitchBehaviour.DEFERRED])
    def test_a_rollback_that_does_not_bring_it_back_says_so(
        self, behaviour: SwitchBehaviour, tmp_path: Path
    ) -> None:
        """Only exit code 0 means success, and `current_closure` is what really runs."""

        @in_loop_of(self)
        async def roll_back() -> None:
            machine, _, _ = await self._machine(tmp_path)
            outcome = await _rollback(machine, machine.add("older", behaviour))
            assert outcome.exit_code != 0, (
                f"expected an exit code other than 0 from a rollback that {behaviour}, found {outcome!r}"
            )
            await _require_running(
                machine, outcome.current_closure, f"after a rollback that says {outcome!r}"
            )

        roll_back()

    async def _machine(self, directory: Path) -> tuple[ActivatedMachine, str, str]:
        """Return a machine, the closure that runs on it, and another one."""
        machine = self.make_machine(directory)
        old, new = machine.add("old"), machine.add("new")
        await machine.boot(old)
        return machine, old, new


async def _switch(machine: ActivatedMachine, closure: str) -> object:
    try:
        return await machine.activator().switch(closure)
    except Exception as error:
        raise AssertionError(
            f"`switch` raised {error!r}: a failed switch is an outcome, not an exception"
        ) from error


async def _rollback(machine: ActivatedMachine, closure: str) -> RollbackFinished:
    try:
        return await machine.activator().rollback(closure)
    except Exception as error:
        raise AssertionError(
            f"`rollback` raised {error!r}: a failed rollback is an outcome, not an exception"
        ) from error


async def _require_running(machine: ActivatedMachine, closure: str, when: str) -> None:
    """A new agent's `current` must be `closure`."""
    found = await machine.activator().current()
    assert found == closure, f"{when}, `current()` must be {closure}, found {found}"
