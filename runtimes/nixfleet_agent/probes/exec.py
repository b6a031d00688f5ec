"""Runs exec probes: a program that ends in time with the expected exit code passes.

The program is the first element of `command`: without a slash it is looked up in PATH, an absolute
path is used as it is, and a relative path with a slash (`bin/check-database`) is inside the running
closure. So a closure can contain its own checks, covered by the signed hash.

The program gets the agent's PATH and LANG and nothing else of its environment, which may hold secrets of the agent.
What it leaves running is killed, and only the end of its output is kept.
Source: docs/spec/declarations.md, Probe kinds.
"""

import os
from pathlib import Path
from typing import Final

from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, failed
from nixfleet_proto.health_check import ExecProbe
from nixfleet_runtime.process.command import OUTPUT_BYTES_MAX, CommandOutcome, run_command

_DEFAULT_ENVIRONMENT: Final = {"PATH": os.defpath, "LANG": "C.UTF-8"}


async def run_exec_probe(check: ExecProbe, closure_root: Path | None) -> ProbeOutcome:
    """Run the check's command once; `closure_root` is the directory of the running closure."""
    program, *arguments = check.command
    if _is_inside_closure(program):
        if closure_root is None:
            return failed(f"to run {program} of the running closure", "no running closure")
        program = str(closure_root / program)
    outcome = await run_command(
        [program, *arguments],
        timeout_seconds=check.timeout_secs,
        environment=probe_environment(),
    )
    if outcome.exit_code == check.expect_exit_code and not _was_stopped(outcome):
        return PASSED
    return failed(
        f"exit code {check.expect_exit_code} within {check.timeout_secs} s",
        _found(check, outcome),
    )


def probe_environment() -> dict[str, str]:
    """Return what a probe's program gets of the agent's environment."""
    return {name: os.environ.get(name, default) for name, default in _DEFAULT_ENVIRONMENT.items()}


def _is_inside_closure(program: str) -> bool:
    return "/" in program and not program.startswith("/")


def _was_stopped(outcome: CommandOutcome) -> bool:
    return outcome.timed_out or outcome.wrote_too_much


def _found(check: ExecProbe, outcome: CommandOutcome) -> str:
    end = "it still running" if outcome.timed_out else str(outcome.exit_code)
    if outcome.wrote_too_much:
        end = f"more than {OUTPUT_BYTES_MAX} bytes of output"
    stderr = " ".join(outcome.stderr_tail.split())
    return f"{end} from {check.command[0]}" + (f": {stderr}" if stderr else "")
