"""What a client may cost: the bounds, and the count of those who wait for a dispatch.

Who holds a bound is elsewhere: `connection` for what is not a request yet, `bodies` for the size of bodies, the
mutator for its queue.
Source: docs/spec/wire.md, Limits; docs/spec/wire.md, GET /v1/agent/dispatch; docs/configuration.md, `[limits]`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from nixfleet_control_plane.http.answers import refusal, unavailable

POLL_SECONDS_MAX = 60


@frozen
class Limits:
    """Upper bounds.

    header_bytes_max, header_seconds_max: of the request line with all headers. body_seconds_max: for the whole body,
    however slowly it comes. answer_seconds_max: for a client that does not take what it asked for.
    keep_alive_seconds: how long a connection is kept on which nothing is asked. connections_max: of all clients, those
    that wait included.
    """

    body_bytes_max: int = 1024 * 1024
    body_seconds_max: float = 10.0
    header_bytes_max: int = 16 * 1024
    header_seconds_max: float = 10.0
    answer_seconds_max: float = 30.0
    keep_alive_seconds: int = 30
    connections_max: int = 25_000
    pollers_per_host_max: int = 2
    pollers_max: int = 20_000


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
