"""What a request may cost: size and time of its body, and how many may wait for a dispatch at once.

Source: design 5 (413, long-poll); docs/configuration.md, `[limits]`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from attrs import frozen
from starlette.requests import ClientDisconnect, Request

from nixfleet_control_plane.http.answers import refusal, unavailable

POLL_SECONDS_MAX = 60


@frozen
class Limits:
    """Upper bounds. body_seconds_max: for the whole body, however slowly it comes."""

    body_bytes_max: int = 1024 * 1024
    body_seconds_max: float = 10.0
    pollers_per_host_max: int = 2
    pollers_max: int = 20_000


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the whole body. Raises: Refusal, 413 when it is too large, 408 when it is too slow."""
    body = bytearray()
    with anyio.move_on_after(limits.body_seconds_max) as scope:
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes_max:
                    raise refusal(
                        "too-large",
                        "The body is too large",
                        413,
                        f"expected at most {limits.body_bytes_max} bytes",
                    )
        except ClientDisconnect:
            raise refusal("cut-off", "The body was cut off", 400, "the client went away") from None
    if scope.cancelled_caught:
        raise refusal(
            "too-slow",
            "The body came too slowly",
            408,
            f"expected it in {limits.body_seconds_max} s",
        )
    return bytes(body)


class Pollers:
    """Who waits for a dispatch at the moment."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_host: Counter[str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def waiting(self, hostname: str) -> Iterator[None]:
        """Count one poller in while the context is open. Raises: Refusal, 429 or 503, when there are too many."""
        if self._by_host[hostname] >= self._limits.pollers_per_host_max:
            raise refusal(
                "too-many-polls",
                "The host polls already",
                429,
                f"{hostname} has {self._by_host[hostname]} polls open, which is as many as it may",
                {"Retry-After": "1"},
            )
        if self._count >= self._limits.pollers_max:
            raise unavailable(
                "Too many polls", f"{self._count} polls are open, which is as many as may", 5
            )
        self._by_host[hostname] += 1
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._by_host[hostname] -= 1
            if not self._by_host[hostname]:
                del self._by_host[hostname]
