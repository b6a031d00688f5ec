"""Which calls of the HTTP interface go over NATS, and how a request and its answer are written as messages. Pure.

A call is the same on both roads: its target, its headers with the signature, its body, and the problems that answer it.
So one specification and one implementation serve both.
Source: docs/spec/nats.md, Calls.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from nixfleet_nats.names import Kind
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.headers import (
    CONTENT_DIGEST,
    PROTOCOL,
    REPLAY_FROM,
    RETRY_AFTER,
    SIGNATURE,
    SIGNATURE_INPUT,
)

TARGET: Final = "Nixfleet-Request"
STATUS: Final = "Nixfleet-Status"
PART: Final = "Nixfleet-Part"
POSITION: Final = "Nixfleet-Position"
ASKED: Final = (PROTOCOL, CONTENT_DIGEST, SIGNATURE_INPUT, SIGNATURE)
ANSWERED: Final = (RETRY_AFTER, REPLAY_FROM, POSITION)
NO_RESPONDERS: Final = "503"
"""What the server itself answers, in the header `Status`, if nothing listens on the subject."""

_TARGET: Final = re.compile(r"(GET|POST) (/[\x21-\x7E]{0,2000})")
_PART: Final = re.compile(r"([1-9][0-9]{0,4})/([1-9][0-9]{0,4})")
_FIXED: Final[Mapping[tuple[str, str], Kind]] = {
    ("POST", paths.AGENT_EVENTS): Kind.EVENTS,
    ("POST", paths.AGENT_EVENT_BATCHES): Kind.EVENTS,
    ("POST", paths.AGENT_HEARTBEAT): Kind.HEARTBEAT,
    ("GET", paths.AGENT_DISPATCH): Kind.DISPATCH,
}
_MANIFEST: Final = re.compile(rf"{paths.ROLLOUTS}/[^/]+(?:/signature)?")


class MessageMalformed(NixfleetError):
    """A message is no request, or no answer. Attributes: `expected`, `found`."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}"


def kind_of(method: str, path: str) -> Kind | None:
    """Return which subject a call of a host goes on; `None` if it is none. path: without the query."""
    if method == "GET" and _MANIFEST.fullmatch(path):
        return Kind.MANIFEST
    return _FIXED.get((method, path))


def is_enrollment(method: str, path: str) -> bool:
    """Return whether it is the call of a host that is not known yet."""
    return (method, path) == ("POST", paths.ENROLL)


@frozen
class Request:
    """A request as a message has it. headers: those of `ASKED`, as they were given."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message_headers(self) -> dict[str, str]:
        """The headers of the message."""
        query = f"?{self.query}" if self.query else ""
        return {TARGET: f"{self.method} {self.path}{query}", **self.headers}


def read_request(headers: Mapping[str, str] | None, body: bytes) -> Request:
    """Return the request in a message. Raises: MessageMalformed."""
    given = headers or {}
    target = _TARGET.fullmatch(given.get(TARGET, ""))
    if target is None:
        raise MessageMalformed(f"a header {TARGET} with a method and a path", "none")
    path, _, query = target[2].partition("?")
    asked = {name: given[name] for name in ASKED if name in given}
    return Request(target[1], path, query, asked, body)


@frozen
class Answer:
    """An answer. headers: those of `ANSWERED` that it has."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def messages(self, bytes_max: int) -> Iterator[tuple[dict[str, str], bytes]]:
        """Yield headers and body of each message: as many as the body needs."""
        count = max(1, -(-len(self.body) // bytes_max))
        for number in range(count):
            part = self.body[number * bytes_max : (number + 1) * bytes_max]
            headers = {STATUS: str(self.status), PART: f"{number + 1}/{count}"}
            yield {**headers, **(self.headers if number == 0 else {})}, part


class Assembly:
    """An answer while its messages arrive, in order. bytes_max: for its body."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._body = bytearray()
        self._headers: dict[str, str] = {}
        self._parts = 0

    def add(self, headers: Mapping[str, str] | None, body: bytes) -> Answer | None:
        """Take the next message; return the answer once it is whole. Raises: MessageMalformed."""
        given = headers or {}
        status, part = given.get(STATUS, ""), _PART.fullmatch(given.get(PART, ""))
        if not (status.isascii() and status.isdecimal() and len(status) == 3) or part is None:
            raise MessageMalformed("a part of an answer", "another message")
        number, count = int(part[1]), int(part[2])
        if number != self._parts + 1 or number > count:
            raise MessageMalformed(f"part {self._parts + 1} of an answer", f"part {number}")
        if number == 1:
            self._headers = {name: given[name] for name in ANSWERED if name in given}
        self._parts = number
        self._body += body
        if len(self._body) > self._bytes_max:
            raise MessageMalformed(f"an answer of at most {self._bytes_max} bytes", "more")
        if number < count:
            return None
        return Answer(int(status), self._headers, bytes(self._body))
