"""Our kernel keeps the contract of a kernel."""

from collections.abc import Awaitable, Callable, Sequence

from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.engine import Engine
from nixfleet_runtime.kernel.mutator import SingleMutator
from nixfleet_testing.contracts.mutator import Mutator, MutatorContract


class TestSingleMutator(MutatorContract):
    """The kernel of both sides."""

    def make_mutator(
        self,
        engine: Engine[str, str, str, str],
        write: Callable[[Sequence[str]], Awaitable[None]],
        carry_out: Callable[[str], None],
        clock: Clock,
        *,
        queue_length_max: int,
        write_seconds_max: float,
    ) -> Mutator:
        """Return a single mutator."""
        return SingleMutator(
            engine,
            write,
            carry_out,
            clock,
            queue_length_max=queue_length_max,
            write_seconds_max=write_seconds_max,
        )


class TestSingleMutatorWithoutBatches(MutatorContract):
    """The same kernel when every input is a transaction of its own."""

    def make_mutator(
        self,
        engine: Engine[str, str, str, str],
        write: Callable[[Sequence[str]], Awaitable[None]],
        carry_out: Callable[[str], None],
        clock: Clock,
        *,
        queue_length_max: int,
        write_seconds_max: float,
    ) -> Mutator:
        """Return a single mutator that takes one input at a time."""
        return SingleMutator(
            engine,
            write,
            carry_out,
            clock,
            queue_length_max=queue_length_max,
            batch_length_max=1,
            write_seconds_max=write_seconds_max,
        )


class TestSingleMutatorUnderTrio(TestSingleMutator):
    """The same under trio."""

    backend = "trio"
