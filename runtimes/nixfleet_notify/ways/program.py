"""Hands messages to a program: the event as JSON on its standard input, bounded time and output.

It gets PATH, LANG and the directory of credentials of the notifier's environment, and NIXFLEET_NOTIFY_… of the message.
Source: docs/spec/notifications.md, Programs.
"""

import os
from typing import Final

from attrs import frozen

from nixfleet_notify.delivery.answers import Answer, exit_answer
from nixfleet_notify.messages.message import Message, text_of
from nixfleet_notify.ways.secret import CREDENTIALS
from nixfleet_runtime.kernel.redacted import redacted
from nixfleet_runtime.kernel.visible import visible
from nixfleet_runtime.process.command import CommandOutcome, run_command

OUTPUT_BYTES_MAX: Final = 64 * 1024
_SHOWN_LENGTH_MAX: Final = 300
_PASSED_ON: Final = ("PATH", "LANG", CREDENTIALS)


@frozen
class Program:
    """One program. command: a program by its path or its name in PATH, and its arguments; no shell."""

    name: str
    command: tuple[str, ...]
    timeout_seconds: float

    async def send(self, message: Message, attempt: int) -> Answer:
        """Return what came of one attempt. Raises nothing: whatever fails is an answer."""
        said = {
            "NIXFLEET_NOTIFY_HOOK": self.name,
            "NIXFLEET_NOTIFY_ID": message.id,
            "NIXFLEET_NOTIFY_TYPE": message.type,
            "NIXFLEET_NOTIFY_TEXT": text_of(message),
            "NIXFLEET_NOTIFY_ATTEMPT": str(attempt),
        }
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        outcome = await run_command(
            self.command,
            timeout_seconds=self.timeout_seconds,
            environment={**passed_on, **said},
            output_bytes_max=OUTPUT_BYTES_MAX,
            stdin=message.body.encode(),
        )
        if outcome.wrote_too_much:
            return exit_answer(
                1, f"expected at most {OUTPUT_BYTES_MAX} bytes of output, found more"
            )
        return exit_answer(outcome.exit_code, self._problem(outcome))

    def _problem(self, outcome: CommandOutcome) -> str:
        if outcome.timed_out:
            return f"expected an end within {self.timeout_seconds:g} s, found it still running"
        said = visible(redacted(outcome.stderr_tail.strip()))[-_SHOWN_LENGTH_MAX:]
        return f"expected exit code 0, found {outcome.exit_code}{f': {said}' if said else ''}"
