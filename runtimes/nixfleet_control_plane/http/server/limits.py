"""The limits on clients' use of resources, and the count of polls that wait for a dispatch.

They are enforced elsewhere: by `connection` before a request is complete, by `bodies` for the size of bodies, by the
mutator for its queue.
`docs/reference/configuration.md` lists them, as `[limits]`.
Source: docs/spec/wire.md, Limits; docs/spec/wire.md, GET /v1/agent/dispatch.
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

    header_bytes_max, header_seconds_max: for the request line and all headers. body_seconds_max: for the whole body.
    answer_seconds_max: for a client that stops reading its response. keep_alive_seconds: for an idle connection.
    connections_max: for all clients, including those that wait in a poll.
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
    """The polls that wait for a dispatch at the moment."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_host: Counter[str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def waiting(self, hostname: str) -> Iterator[None]:
        """Count one poll while the context is open. Raises: Refusal, 429 or 503, when a limit is reached."""
        if self._by_host[hostname] >= self._limits.pollers_per_host_max:
            raise refusal(
                "too-many-polls",
                "The host has too many open polls",
                429,
                f"{hostname} has reached its limit of {self._by_host[hostname]} open polls",
                {"Retry-After": "1"},
            )
        if self._count >= self._limits.pollers_max:
            raise unavailable(
                "Too many polls", f"the limit of {self._count} open polls is reached", 5
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
