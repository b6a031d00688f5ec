"""Running one program: its end, its output's end, and the end of what it started."""

import os
import signal
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from nixfleet_runtime.process import command
from nixfleet_runtime.process.command import (
    OUTPUT_TAIL_BYTES_MAX,
    CommandOutcome,
    CommandRunner,
    ProcessRunner,
    run_command,
)

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30


@pytest.fixture
def lifeline(tmp_path: Path) -> Path:
    """A named pipe: whoever holds it open for writing lives; at its end, nobody does."""
    pipe = tmp_path / "lifeline"
    os.mkfifo(pipe)
    return pipe


async def _sh(script: str, timeout_seconds: float = PATIENCE_SECONDS) -> CommandOutcome:
    return await run_command(["/bin/sh", "-c", script], timeout_seconds=timeout_seconds)


async def test_program_that_ends_gives_its_exit_code_and_what_it_wrote() -> None:
    """Exit code, standard output and standard error come back, each on its own."""
    outcome = await _sh("echo out; echo err >&2; exit 3")

    assert outcome == CommandOutcome(3, "out\n", "err\n")


async def test_program_run_through_the_port_really_runs() -> None:
    """The runner that activators are given runs programs of this machine."""
    runner: CommandRunner = ProcessRunner()

    assert await runner.run(["echo", "hi"], timeout_seconds=PATIENCE_SECONDS) == CommandOutcome(
        0, "hi\n"
    )


async def test_program_reads_what_it_is_given_and_need_not() -> None:
    """All of it, however much; by default it reads an end. One that does not read blocks nobody."""
    much = b"x" * 1_000_000

    async def run(script: str, stdin: bytes | None) -> CommandOutcome:
        command = ["/bin/sh", "-c", script]
        return await run_command(command, timeout_seconds=PATIENCE_SECONDS, stdin=stdin)

    assert (await run("wc -c", much)).stdout_tail.strip() == "1000000"
    assert (await run("wc -c", None)).stdout_tail.strip() == "0"
    assert await run("exit 3", much) == CommandOutcome(3)


async def test_program_that_writes_much_gives_the_end_of_it() -> None:
    """Of long output the last 4 KiB are kept."""
    outcome = await _sh("yes | head -c 100000 >&2; printf end >&2")

    assert outcome.stderr_tail.endswith("y\nend")
    assert len(outcome.stderr_tail) == OUTPUT_TAIL_BYTES_MAX


async def test_program_that_writes_no_utf8_has_the_rest_kept() -> None:
    """Bytes that are no text are replaced, not refused."""
    outcome = await _sh(r"printf 'a\377b' >&2")

    assert outcome.stderr_tail == "a\N{REPLACEMENT CHARACTER}b"


async def test_program_ended_by_a_signal_has_a_shells_exit_code() -> None:
    """Signal 15 gives exit code 143, as in a shell."""
    outcome = await _sh("kill -TERM $$")

    assert outcome.exit_code == 128 + signal.SIGTERM


async def test_program_that_does_not_exist_ends_as_in_a_shell() -> None:
    """A missing program is an outcome with exit code 127 that names it."""
    outcome = await run_command(["/no/such/program"], timeout_seconds=PATIENCE_SECONDS)

    assert outcome.exit_code == 127
    assert "/no/such/program" in outcome.stderr_tail


async def test_program_that_is_not_executable_ends_as_in_a_shell(tmp_path: Path) -> None:
    """A file that may not be executed is an outcome with exit code 126 that names it."""
    (tmp_path / "script").touch(mode=0o644)

    outcome = await run_command([str(tmp_path / "script")], timeout_seconds=PATIENCE_SECONDS)

    assert outcome.exit_code == 126
    assert str(tmp_path / "script") in outcome.stderr_tail


async def test_program_gets_the_directory_and_environment_it_is_given(tmp_path: Path) -> None:
    """A given environment replaces the caller's; the directory is the one asked for."""
    outcome = await run_command(
        ["/bin/sh", "-c", 'pwd; echo "$ONE-$HOME"'],
        timeout_seconds=PATIENCE_SECONDS,
        cwd=tmp_path,
        environment={"ONE": "1"},
    )

    assert outcome.stdout_tail == f"{tmp_path}\n1-\n"


async def test_program_over_its_time_is_killed_with_its_children(lifeline: Path) -> None:
    """When the time is over, the program and what it started are dead, and the outcome says so."""
    reader = os.open(lifeline, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    outcome = await _sh(f"echo said >&2; exec 3>{lifeline}; sleep 1000 & sleep 1000", 1)

    assert outcome == CommandOutcome(124, stderr_tail="said\n", timed_out=True)
    assert await _read_to_the_end(reader) == b""


async def test_cancelled_program_is_killed_with_its_children(lifeline: Path) -> None:
    """A cancelled call leaves neither the program nor what it started behind."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_sh, f"exec 3>{lifeline}; echo up >&3; sleep 1000 & sleep 1000")
        reader = await anyio.to_thread.run_sync(os.open, lifeline, os.O_RDONLY)
        assert await anyio.to_thread.run_sync(os.read, reader, 3) == b"up\n"
        tasks.cancel_scope.cancel()

    assert await _read_to_the_end(reader) == b""


@pytest.mark.parametrize(
    "leave", ["sleep 1000 &", "set -m; sleep 1000 &", "(sleep 1000 & sleep 1000 &) &"]
)
async def test_what_a_program_leaves_in_its_session_is_killed(lifeline: Path, leave: str) -> None:
    """After a program that ended by itself, its children are dead, in whatever process group they are."""
    reader = os.open(lifeline, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    outcome = await _sh(f"exec 3>{lifeline}; {leave} exit 7")

    assert outcome.exit_code == 7
    assert await _read_to_the_end(reader) == b""


async def test_service_that_left_the_session_stays_and_is_not_waited_for() -> None:
    """The program's own end counts, though a service it started still holds its output open."""
    with anyio.fail_after(PATIENCE_SECONDS):
        outcome = await _sh("setsid sleep 1000 & echo $!; exit 0", timeout_seconds=1000)

    service = int(outcome.stdout_tail)
    try:
        assert outcome.exit_code == 0
    finally:
        # Which also shows that it was left running.
        os.kill(service, signal.SIGKILL)


@pytest.mark.parametrize("stream", [1, 2])
async def test_program_that_writes_without_end_is_killed_at_the_limit(
    stream: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood on either output ends with the limit, not with the time; the end of it is kept."""
    monkeypatch.setattr(command, "OUTPUT_BYTES_MAX", 1024 * 1024)

    outcome = await _sh(f"yes >&{stream}", timeout_seconds=1000)

    assert outcome.wrote_too_much
    assert not outcome.timed_out
    assert outcome.exit_code == 128 + signal.SIGKILL
    assert len(outcome.stdout_tail + outcome.stderr_tail) == OUTPUT_TAIL_BYTES_MAX


async def test_program_that_writes_up_to_the_limit_is_not_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is what may be written."""
    monkeypatch.setattr(command, "OUTPUT_BYTES_MAX", 1000)

    outcome = await _sh("head -c 1000 /dev/zero; exit 0")

    assert (outcome.exit_code, outcome.wrote_too_much) == (0, False)


async def test_last_words_of_a_program_are_kept() -> None:
    """What was written just before the end is read, though the end came first."""
    for _ in range(20):
        outcome = await _sh("head -c 60000 /dev/zero >&2; printf last >&2; exit 1")
        assert outcome.stderr_tail.endswith("last")


async def test_no_descriptor_is_left_open() -> None:
    """Runs that succeed, fail to start or are stopped leave no pipe behind."""
    await _sh("true")
    before = _open_descriptors()
    await _sh("true")
    await _sh("sleep 1000", timeout_seconds=0.1)
    await run_command(["/no/such/program"], timeout_seconds=PATIENCE_SECONDS)

    assert _open_descriptors() == before


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _read_to_the_end(reader: int) -> bytes:
    """Return what is left to read once nobody holds the pipe open any more."""
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            return await anyio.to_thread.run_sync(os.read, reader, 100, abandon_on_cancel=True)
    finally:
        os.close(reader)
