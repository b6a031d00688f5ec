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
from nixfleet_runtime.http.headers import RETRY_AFTER

POLL_SECONDS_MAX = 60
FEED_SECONDS_MAX = 30
BURST_SECONDS = 10
ENROLLMENT_BYTES_MAX = 8 * 1024
"""The body of an enrollment: whoever sends it is not known before it was read. A good one has about 700 bytes."""

HEARTBEAT_BYTES_MAX = 64 * 1024
"""The body of a heartbeat: it has a number for each rollout of a host, of which there are a few."""


class HeldBodies:
    """How many bytes of bodies are held at the moment, over all connections."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0

    @property
    def is_over(self) -> bool:
        """Whether more is held than may be."""
        return self.bytes > self.bytes_max


@frozen
class Limits:
    """Upper bounds.

    bodies_bytes_max: for the bodies of all requests that are not answered yet.
    header_bytes_max, header_seconds_max: for the request line and all headers. body_seconds_max: for the whole body.
    answer_seconds_max: for a client that stops reading its response. keep_alive_seconds: for an idle connection.
    host_requests_per_second_max, host_events_per_second_max: for one host, on average; `BURST_SECONDS` of it may come
    at once.
    connections_max: for all clients, including those that wait in a poll.
    """

    body_bytes_max: int = 1024 * 1024
    bodies_bytes_max: int = 64 * 1024 * 1024
    body_seconds_max: float = 10.0
    header_bytes_max: int = 16 * 1024
    header_seconds_max: float = 10.0
    answer_seconds_max: float = 30.0
    keep_alive_seconds: int = 30
    connections_max: int = 25_000
    pollers_per_host_max: int = 2
    pollers_max: int = 20_000
    viewers_per_operator_max: int = 8
    viewers_max: int = 500
    host_requests_per_second_max: int = 20
    host_events_per_second_max: int = 200


class HostRates:
    """How much each host has sent of late: a bucket that fills again as time passes. what: what is counted."""

    def __init__(self, what: str, per_second_max: int) -> None:
        self._what = what
        self._per_second = per_second_max
        self._room_max = per_second_max * BURST_SECONDS
        self._rooms: dict[str, tuple[float, float]] = {}

    def count(self, hostname: str, now_seconds: float, number: int = 1) -> None:
        """Count `number` of `hostname`, at most a whole bucket.

        Raises: Refusal, 429, if they are too many; then none of them counts.
        """
        number = min(number, self._room_max)
        room, before = self._rooms.get(hostname, (self._room_max, now_seconds))
        room = min(self._room_max, room + max(0.0, now_seconds - before) * self._per_second)
        # Kept for a refused one too: after a clock was set back, time counts from there.
        self._rooms[hostname] = room if room < number else room - number, now_seconds
        if room < number:
            wait_seconds = -(-(number - room) // self._per_second)
            raise refusal(
                "too-frequent",
                "The host asks too often",
                429,
                f"expected at most {self._per_second} {self._what} a second of {hostname}",
                {RETRY_AFTER: str(int(wait_seconds))},
            )


class Pollers:
    """The polls that wait at the moment. each_max, all_max: of one caller, and of all. caller: what each is."""

    def __init__(self, each_max: int, all_max: int, caller: str) -> None:
        self._each_max = each_max
        self._all_max = all_max
        self._caller = caller
        self._by_name: Counter[str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Count one poll while the context is open. Raises: Refusal, 429 or 503, when a limit is reached."""
        if self._by_name[name] >= self._each_max:
            raise refusal(
                "too-many-polls",
                f"The {self._caller} has too many open polls",
                429,
                f"{name} has reached its limit of {self._by_name[name]} open polls",
                {"Retry-After": "1"},
            )
        if self._count >= self._all_max:
            raise unavailable(
                "Too many polls", f"the limit of {self._count} open polls is reached", 5
            )
        self._by_name[name] += 1
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._by_name[name] -= 1
            if not self._by_name[name]:
                del self._by_name[name]
