"""Notifies systemd of the process's state (`Type=notify`). Does nothing under other service managers.

The protocol is one datagram to a socket that the environment names, so a library would not be shorter than this.
Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from nixfleet_runtime.kernel.visible import visible

_BEAT_SECONDS_MAX: Final = 10.0
"""How old the status may become that systemd shows."""
_STATUS_LENGTH_MAX: Final = 200


def notify(state: str) -> None:
    """Send `state`, for example `READY=1`. Delivery errors are ignored, because systemd may have stopped listening."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        try:
            notifications.sendto(state.encode(), address)
        except OSError:
            return


class Watchdog:
    """Tells systemd that the one task that decides goes on (`WatchdogSec=`), and in one line how the service is.

    Let the mutator call `beat` after each batch: then a write that hangs, or a decision that does not end, ends the
    process, which another thread or timer would keep alive. Ticks come every few seconds, so beats do.
    status: returns the line, of which the first 200 characters are shown.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] = os.environ,
        send: Callable[[str], None] = notify,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.status: Callable[[], str] = lambda: "starting"
        self._send = send
        self._now = now
        self._beat_seconds = min(_BEAT_SECONDS_MAX, _watchdog_seconds(environ) / 2)
        self._beat_at: float | None = None

    def beat(self, _batch_length: int) -> None:
        """Send a sign of life, unless the last one is recent."""
        now = self._now()
        if self._beat_at is not None and now - self._beat_at < self._beat_seconds:
            return
        self._beat_at = now
        status = visible(self.status())[:_STATUS_LENGTH_MAX]
        self._send(f"WATCHDOG=1\nSTATUS={status}")


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return within which time systemd wants a sign of life; without a limit for this process, infinity."""
    try:
        microseconds = int(environ["WATCHDOG_USEC"])
        is_ours = int(environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
    except (KeyError, ValueError):
        return float("inf")
    return microseconds / 1e6 if is_ours and microseconds > 0 else float("inf")
