"""The mutator in virtual time does what the production one does, in the same order."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import anyio
import pytest

from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.kernel.mutator import SingleMutator
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.clock import NodeClock
from nixfleet_simulation.nodes.crash_boundaries import CrashBoundaries
from nixfleet_simulation.nodes.mutator import Handled, Mutator, Shell
from nixfleet_testing.contracts.word_ledger import Disk, Ledger

HISTORIES = {
    "one": ("a",),
    "several in one batch": ("a", "b", "ask c", "d"),
    "one that poisons": ("a", "poison b", "c"),
    "one that does not fit": ("a", "full b", "c"),
    "nothing to write": ("ask a", "ask b"),
    "one alone that does not fit": ("full a",),
    "all kinds": ("a", "ask b", "poison c", "full d", "e"),
}


class Log:
    """What happened, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.disk = Disk()

    def write(self, words: Sequence[str]) -> None:
        """Make `words` durable, or refuse all of them."""
        if any(word.startswith("full") for word in words):
            self.lines.append(f"no room for {list(words)}")
            raise OSError("no room")
        self.lines.append(f"wrote {list(words)}")

    def carry_out(self, action: str) -> None:
        self.lines.append(action)


def _in_virtual_time(words: Sequence[str]) -> list[str]:
    agenda, log, life = Agenda(), Log(), NodeLifetime()

    def write(
        _: NodeLifetime,
        writes: tuple[str, ...],
        keep: Callable[[], None],
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        def end() -> None:
            try:
                log.write(writes)
            except OSError as error:
                failed(error)
            else:
                keep()
                then()

        agenda.after(1000, life, end)

    def keep(_: Sequence[Handled[str, str, str, str]]) -> None:
        """Nobody looks."""

    def raised(input: str, _: Exception) -> None:
        log.lines.append(f"raised on {input}")

    shell = Shell[str, str, str, str](
        agenda,
        life,
        NodeClock(agenda),
        write,
        log.carry_out,
        CrashBoundaries(lambda _: None),
        keep,
        raised,
    )
    mutator = Mutator(Ledger(), shell)
    for word in words:
        mutator.post(
            word,
            partial(lambda word, reply: log.lines.append(f"{word}: {reply}"), word),
            partial(lambda word, _: log.lines.append(f"{word}: failed"), word),
        )
    agenda.run_until(60 * SECOND)
    return log.lines


async def _in_production(words: Sequence[str]) -> list[str]:
    log = Log()

    async def write(writes: Sequence[str]) -> None:
        log.write(writes)

    mutator = SingleMutator[str, str, str, str](
        Ledger(), write, log.carry_out, FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    )

    async def post(word: str) -> None:
        try:
            log.lines.append(f"{word}: {await mutator.post(word)}")
        except Exception:
            log.lines.append(f"{word}: failed")

    async with anyio.create_task_group() as tasks:
        for word in words:
            tasks.start_soon(post, word)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(mutator.run)
        await anyio.wait_all_tasks_blocked()
        mutator.close()
    return log.lines


@pytest.mark.parametrize("words", HISTORIES.values(), ids=HISTORIES)
def test_the_simulated_mutator_writes_answers_and_acts_as_the_real_one(
    words: Sequence[str],
) -> None:
    """Writes and actions come in the same order, and everybody gets the same answer."""
    simulated = _in_virtual_time(words)
    real = anyio.run(_in_production, words)

    assert _of_the_machine(simulated) == _of_the_machine(real)
    assert sorted(_answers(simulated)) == sorted(_answers(real))


def _of_the_machine(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.startswith(("wrote", "no room", "after"))]


def _answers(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if ": " in line]
