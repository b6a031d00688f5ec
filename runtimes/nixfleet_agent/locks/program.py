"""Asks a program whether a switch may begin: the `DeviceLock` of an agent's configuration.

The program gets the agent's PATH and LANG, and the question in NIXFLEET_ROLLOUT, NIXFLEET_CLOSURE and NIXFLEET_ATTEMPT.
It is ended at its time-out, and as soon as it has written more than it may; what it leaves running is killed.
Source: docs/spec/runtimes.md, Device locks.
"""

from attrs import frozen

from nixfleet_agent.locks.lock import OUTPUT_BYTES_MAX, LockOutcome, LockQuestion
from nixfleet_agent.probes.exec import probe_environment
from nixfleet_runtime.process.command import (
    EXIT_CODE_NOT_EXECUTABLE,
    EXIT_CODE_NOT_FOUND,
    CommandOutcome,
    run_command,
)

TIMEOUT_SECONDS_DEFAULT = 60.0


@frozen
class LockProgram:
    """The lock of `[lock]`. command: a program by its path or its name in PATH, and its arguments; no shell."""

    command: tuple[str, ...]
    timeout_seconds: float = TIMEOUT_SECONDS_DEFAULT

    async def ask(self, question: LockQuestion) -> LockOutcome:
        asked = {
            "NIXFLEET_ROLLOUT": question.rollout_id,
            "NIXFLEET_CLOSURE": question.closure,
            "NIXFLEET_ATTEMPT": str(question.attempt),
        }
        outcome = await run_command(
            self.command,
            timeout_seconds=self.timeout_seconds,
            environment={**probe_environment(), **asked},
            output_bytes_max=OUTPUT_BYTES_MAX,
        )
        stdout, stderr = outcome.stdout_tail, outcome.stderr_tail
        return LockOutcome(outcome.exit_code, stdout, stderr, self._problem(outcome))

    def _problem(self, outcome: CommandOutcome) -> str | None:
        if outcome.timed_out:
            return f"expected an end within {self.timeout_seconds:g} s, found it still running"
        if outcome.wrote_too_much:
            return f"expected at most {OUTPUT_BYTES_MAX} bytes of output, found more"
        if outcome.was_not_started and outcome.exit_code == EXIT_CODE_NOT_FOUND:
            return f"expected a program, found none: {outcome.stderr_tail}"
        if outcome.was_not_started and outcome.exit_code == EXIT_CODE_NOT_EXECUTABLE:
            return f"expected an executable program, found {outcome.stderr_tail}"
        # All of it: a program may not write more than is kept.
        if not outcome.is_stdout_utf8:
            return "expected output in UTF-8, found other bytes"
        return None
