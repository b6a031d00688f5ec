"""Exec probes, with real programs."""

from pathlib import Path

import pytest

from nixfleet_agent.probes import exec as exec_probes
from nixfleet_agent.probes.exec import run_exec_probe
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.health_check import FAILURE_REASON_LENGTH_MAX, ExecProbe
from nixfleet_runtime.process import command

pytestmark = pytest.mark.anyio


def _sh(script: str, expect_exit_code: int = 0, timeout_secs: int = 30) -> ExecProbe:
    return ExecProbe(("/bin/sh", "-c", script), expect_exit_code, timeout_secs)


@pytest.mark.parametrize("code", [0, 7])
async def test_command_that_exits_as_expected_passes(code: int) -> None:
    """The expected exit code passes, whichever it is."""
    outcome = await run_exec_probe(_sh(f"exit {code}", expect_exit_code=code), None)

    assert outcome.status is ProbeStatus.PASS
    assert outcome.failure_reason is None


async def test_command_that_exits_otherwise_fails_with_its_words() -> None:
    """Another exit code fails; the reason has both codes, the program and what it said."""
    outcome = await run_exec_probe(_sh("echo 'no  lock' >&2; echo held >&2; exit 2"), None)

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason == (
        "expected exit code 0 within 30 s, found 2 from /bin/sh: no lock held"
    )


async def test_command_that_says_much_has_its_reason_cut() -> None:
    """A reason is cut to 512 characters."""
    outcome = await run_exec_probe(_sh("yes no | head -c 3000 >&2; exit 1"), None)

    assert outcome.failure_reason is not None
    assert len(outcome.failure_reason) == FAILURE_REASON_LENGTH_MAX


async def test_command_over_its_time_fails() -> None:
    """A command that does not end in time fails, with the limit."""
    outcome = await run_exec_probe(_sh("sleep 1000", timeout_secs=1), None)

    assert outcome.failure_reason == (
        "expected exit code 0 within 1 s, found it still running from /bin/sh"
    )


async def test_command_over_its_time_fails_though_124_is_expected() -> None:
    """The exit code that stands for being stopped is not mistaken for the program's own."""
    outcome = await run_exec_probe(_sh("sleep 1000", expect_exit_code=124, timeout_secs=1), None)

    assert outcome.status is ProbeStatus.FAIL


async def test_command_that_does_not_exist_fails_and_names_it() -> None:
    """A program that cannot be started fails."""
    outcome = await run_exec_probe(ExecProbe(("/no/such/program",)), None)

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason is not None
    assert "found 127 from /no/such/program" in outcome.failure_reason


async def test_command_with_a_relative_path_is_the_running_closures(tmp_path: Path) -> None:
    """A first element like `bin/check` is looked for inside the closure."""
    (tmp_path / "bin").mkdir()
    check = tmp_path / "bin" / "check"
    check.write_text('#!/bin/sh\n[ "$1" = ready ]\n', encoding="utf-8")
    check.chmod(0o755)

    outcome = await run_exec_probe(ExecProbe(("bin/check", "ready")), tmp_path)

    assert outcome.status is ProbeStatus.PASS


async def test_command_with_a_relative_path_and_no_running_closure_fails() -> None:
    """Without a closure there is nothing to look for it in; the agent's own directory is not."""
    outcome = await run_exec_probe(ExecProbe(("bin/sh", "-c", "true")), None)

    assert outcome.failure_reason == (
        "expected to run bin/sh of the running closure, found no running closure"
    )


async def test_command_without_a_slash_is_looked_up_in_the_path(tmp_path: Path) -> None:
    """A bare name is a program of the machine, closure or not."""
    outcome = await run_exec_probe(ExecProbe(("true",)), tmp_path)

    assert outcome.status is ProbeStatus.PASS


async def test_command_gets_nothing_secret_of_the_agents_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PATH and LANG are the agent's; nothing else of its environment is passed on."""
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("NIXFLEET_SECRET", "hunter2")
    script = '[ "$LANG-$NIXFLEET_SECRET-$HOME" = de_DE.UTF-8-- ] && command -v true'

    assert (await run_exec_probe(_sh(script), None)).status is ProbeStatus.PASS


async def test_command_that_writes_without_end_fails_with_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood of output fails the probe, though the program would exit as expected when it is killed."""
    for module in (command, exec_probes):
        monkeypatch.setattr(module, "OUTPUT_BYTES_MAX", 100_000)

    outcome = await run_exec_probe(_sh("yes", expect_exit_code=137), None)

    assert outcome.failure_reason == (
        "expected exit code 137 within 30 s, found more than 100000 bytes of output from /bin/sh"
    )
