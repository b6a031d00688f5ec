"""A client that costs little: requests are signed and put into bytes beforehand, connections are kept.

It stands for many agents on many machines; what it spends is not the control plane's, but on two cores it is felt.
"""

import asyncio
from collections.abc import Sequence

from attrs import evolve, frozen

from benchmarks.life import ROLLOUT
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import encode_envelope, encode_event_batch
from nixfleet_proto.signing import SigningKey, sign_batch, sign_envelope
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.signing.key_id import host_key_id
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from nixfleet_runtime.kernel.clock import SystemClock

_CLOCK = SystemClock()


@frozen
class Address:
    """Where the control plane listens."""

    host: str
    port: int


class Connection:
    """One kept connection. One request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: Address) -> "Connection":
        """Return a new connection."""
        return cls(*await asyncio.open_connection(address.host, address.port))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        return int(head[9:12]), await self._body(head)

    async def _body(self, head: bytes) -> bytes:
        _, found, rest = head.lower().partition(b"content-length:")
        length = int(rest.partition(b"\r\n")[0]) if found else 0
        return await self._reader.readexactly(length) if length else b""

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def request(host: str, key: SigningKey, method: str, target: str, body: bytes = b"") -> bytes:
    """Return a signed request as it goes over the wire."""
    signed = sign_request(key, host_key_id(host), method, target, body, _CLOCK.now(), new_nonce())
    lines = [f"{method} {target} HTTP/1.1", "Host: control-plane", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in signed.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def post_of(host: str, key: SigningKey, facts: Sequence[AgentEvent]) -> bytes:
    """Return the request that reports `facts`: one in an envelope, more in a batch that is signed once."""
    envelopes = tuple(AgentEventEnvelope(host, ROLLOUT, fact) for fact in facts)
    if len(envelopes) == 1:
        body = encode_envelope(sign_envelope(envelopes[0], key))
        return request(host, key, "POST", paths.AGENT_EVENTS, body)
    body = encode_event_batch(sign_batch(EventBatch(envelopes), key))
    return request(host, key, "POST", paths.AGENT_EVENT_BATCHES, body)


def chatter(facts: Sequence[AgentEvent], settled: int, count: int) -> tuple[AgentEvent, ...]:
    """Return `count` facts: the first `settled` of a life, and then one probe result after the other."""
    result = facts[-2]
    more = (evolve(result, seq=seq) for seq in range(settled + 1, count + 1))
    return (*facts[:settled], *more)
