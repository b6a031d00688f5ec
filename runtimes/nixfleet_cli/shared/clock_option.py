"""The option `--clock`, for demonstrations and tests: several processes share a clock that is not the machine's.

`SPEED@TIME`: a clock that showed TIME when the machine's did, and has run SPEED times as fast since. It is not
listed by `--help`: whoever runs a fleet has no use for it.
"""

from datetime import datetime

import click

from nixfleet_proto.codec import format_time, parse_time
from nixfleet_runtime.kernel.clock import Clock, ScaledClock, SystemClock

_EXAMPLE = "60@2026-05-16T01:00:00Z"


def _clock_of(_context: click.Context, _option: click.Parameter, text: str | None) -> Clock:
    """Return the clock that `text` describes; the machine's, when there is no text."""
    if text is None:
        return SystemClock()
    speed, _, since = text.partition("@")
    try:
        return shared_clock(float(speed), parse_time(since))
    except ValueError:
        raise click.BadParameter(f"expected SPEED@TIME, as {_EXAMPLE}, found {text!r}") from None


clock_option = click.option("--clock", callback=_clock_of, hidden=True)
"""Gives a command the parameter `clock`, a `Clock`."""


def shared_clock(speed: float, since: datetime) -> ScaledClock:
    """Return the clock that `clock_arguments` of the same two gives to a process. Raises: ValueError."""
    return ScaledClock(speed, since, since)


def clock_arguments(speed: float, since: datetime) -> tuple[str, str]:
    """Return what lets another process run on the clock `shared_clock(speed, since)`."""
    return "--clock", f"{speed}@{format_time(since)}"
