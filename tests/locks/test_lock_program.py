"""Real programs are asked: each way in which one can go wrong has a problem of its own."""

import time
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_agent.locks.lock import OUTPUT_BYTES_MAX, LockOutcome, LockQuestion
from nixfleet_agent.locks.program import LockProgram
from nixfleet_proto.ids import RolloutId

pytestmark = pytest.mark.anyio

QUESTION = LockQuestion(RolloutId("stable@r1"), "closure-1", 2)


def program(directory: Path, body: str, *, timeout_seconds: float = 20.0) -> LockProgram:
    file = directory / "may-activate"
    file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    file.chmod(0o755)
    return LockProgram((str(file), "an argument"), timeout_seconds)


async def test_a_program_says_what_it_printed_and_how_it_ended(tmp_path: Path) -> None:
    """Its exit code and its output, with no problem."""
    lock = program(tmp_path, 'echo "$1"; echo "until=later"; exit 75')
    assert await lock.ask(QUESTION) == LockOutcome(75, "an argument\nuntil=later\n")


async def test_a_program_knows_what_it_is_asked_about(tmp_path: Path) -> None:
    """The rollout, the closure and the attempt are in its environment, and nothing of the agent's but two variables."""
    lock = program(tmp_path, 'echo "$NIXFLEET_ROLLOUT $NIXFLEET_CLOSURE $NIXFLEET_ATTEMPT $HOME"')
    assert (await lock.ask(QUESTION)).stdout == "stable@r1 closure-1 2 \n"


async def test_a_program_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    """The problem names it."""
    outcome = await LockProgram((str(tmp_path / "absent"),)).ask(QUESTION)
    expected = f"expected a program, found none: {tmp_path}/absent: No such file or directory"
    assert outcome.problem == expected


async def test_a_file_that_is_not_executable_is_a_problem(tmp_path: Path) -> None:
    """Nothing was run."""
    file = tmp_path / "may-activate"
    file.write_text("#!/bin/sh\n", encoding="utf-8")
    file.chmod(0o644)
    outcome = await LockProgram((str(file),)).ask(QUESTION)
    assert outcome.problem == f"expected an executable program, found {file}: Permission denied"


async def test_a_program_that_ends_with_the_code_of_an_absent_one_was_run_all_the_same(
    tmp_path: Path,
) -> None:
    """Its exit code is its own: 127 is no problem of the start."""
    outcome = await program(tmp_path, "exit 127").ask(QUESTION)
    assert (outcome.exit_code, outcome.problem) == (127, None)


async def test_a_program_that_hangs_is_ended_at_its_time_out(tmp_path: Path) -> None:
    """What it started is ended too."""
    outcome = await program(tmp_path, "sleep 1000", timeout_seconds=0.2).ask(QUESTION)
    assert outcome.problem == "expected an end within 0.2 s, found it still running"


async def test_a_program_that_prints_megabytes_is_ended_at_once(tmp_path: Path) -> None:
    """It is not read to its end, which never comes, and no more is kept than it may print."""
    began_at = time.monotonic()
    outcome = await program(tmp_path, "yes no").ask(QUESTION)
    assert outcome.problem == f"expected at most {OUTPUT_BYTES_MAX} bytes of output, found more"
    assert len(outcome.stdout) <= OUTPUT_BYTES_MAX
    assert time.monotonic() - began_at < 15, "the time-out ended it, and not its output"


async def test_as_much_as_a_program_may_print_is_no_problem(tmp_path: Path) -> None:
    """The limit itself is allowed."""
    lock = program(tmp_path, f"head -c {OUTPUT_BYTES_MAX} /dev/zero | tr '\\0' x; exit 75")
    outcome = await lock.ask(QUESTION)
    assert (outcome.problem, len(outcome.stdout)) == (None, OUTPUT_BYTES_MAX)


async def test_output_that_is_not_utf_8_is_a_problem(tmp_path: Path) -> None:
    """Its reason would not be what the program meant."""
    outcome = await program(tmp_path, r"printf '\377\376'; exit 75").ask(QUESTION)
    assert outcome.problem == "expected output in UTF-8, found other bytes"


@pytest.mark.parametrize("where", ["command", "question"])
async def test_a_text_with_a_nul_starts_nothing_and_is_a_problem(
    tmp_path: Path, where: str
) -> None:
    """No program can be given one. A closure that has one comes from a release."""
    lock = program(tmp_path, "exit 0")
    question = QUESTION
    if where == "command":
        lock = LockProgram((*lock.command, "a\0b"))
    else:
        question = evolve(QUESTION, closure="closure\0")
    outcome = await lock.ask(question)
    expected = f"expected an executable program, found {tmp_path}/may-activate: embedded null byte"
    assert outcome.problem == expected


async def test_output_that_ends_within_a_character_is_a_problem(tmp_path: Path) -> None:
    """It is UTF-8 up to there."""
    outcome = await program(tmp_path, r"printf 'call \342\234'; exit 75").ask(QUESTION)
    assert outcome.problem == "expected output in UTF-8, found other bytes"


@pytest.mark.parametrize(
    "word", ["ende", "Ärger mit dem Akku ✗", "a call \N{REPLACEMENT CHARACTER}"]
)
async def test_text_in_any_language_is_no_problem(tmp_path: Path, word: str) -> None:
    """UTF-8 is what it is."""
    outcome = await program(tmp_path, f"echo '{word}'; exit 75").ask(QUESTION)
    assert (outcome.problem, outcome.stdout) == (None, f"{word}\n")
