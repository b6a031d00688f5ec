"""One connection to a NATS server, made with an ed25519 key of nixfleet's. It is never made again by itself.

nats-py would connect again behind its user's back; here a connection that ends is over, so that whoever uses it
checks anew who is at the other end and what was missed.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

import anyio
import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from nixfleet_nats.errors import (
    LoginRefused,
    NatsUnusable,
    PayloadTooLarge,
    ServerAsksNoProof,
    ServerTooOld,
    ServerUnreachable,
)
from nixfleet_nats.nkeys import NonceRefused, Owner, nkey_of, signed_nonce
from nixfleet_nats.target import Target
from nixfleet_proto.signing import Signer
from nixfleet_runtime.http.client import tls_context

VERSION_LEAST: Final = (2, 11)
"""Of the server: the first whose buckets forget single keys after a time."""
CONNECT_SECONDS_MAX: Final = 10
CLOSE_SECONDS_MAX: Final = 1.0
PING_SECONDS: Final = 10
HEADERS_BYTES: Final = 4096
"""Room for the headers of a message, which count as part of it."""
_log = logging.getLogger(__name__)


class Message(Protocol):
    """A message as it arrives."""

    @property
    def subject(self) -> str: ...
    @property
    def reply(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def headers(self) -> dict[str, str] | None: ...


Handler = Callable[[Message], Awaitable[None]]


class _NkeyClient(Client):
    """A client whose key is not in a file of NATS's own form. Made for one minor release of nats-py: pyproject.toml."""

    def __init__(self, nkey: str) -> None:
        super().__init__()
        self._public_nkey = nkey


class Connection:
    """A connection that was made. inbox: begins its own subjects. closed: set once it is over, by either side."""

    def __init__(self, target: Target, client: Client, inbox: str, closed: anyio.Event) -> None:
        self.target = target
        self.inbox = inbox
        self.client = client
        self.closed = closed
        self.denied: list[str] = []
        """What the server would not let this connection do, in its words."""

    async def subscribe(self, subject: str, handle: Handler, queue: str = "") -> Subscription:
        """Have `handle` called for every message, one after another. Raises: ServerUnreachable."""
        try:
            return await self.client.subscribe(subject, queue, cb=handle)
        except (nats.errors.Error, OSError) as error:
            raise unreachable(self.target, error) from error

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Take no more messages, once the server knows. Does nothing on a connection that is over."""
        if not self.closed.is_set():
            with suppress(nats.errors.Error, OSError, TimeoutError):
                await subscription.unsubscribe()
                await self.client.flush(CONNECT_SECONDS_MAX)

    async def settle(self) -> None:
        """Return once the server has seen all that was sent. Raises: ServerUnreachable."""
        try:
            # nats-py writes a ping ahead of what waits to be sent; that was sent when the ping is answered.
            for _ in range(2):
                await self.client.flush(CONNECT_SECONDS_MAX)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise unreachable(self.target, error) from error

    async def publish(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send a message. Raises: ServerUnreachable, PayloadTooLarge."""
        try:
            await self.client.publish(subject, data, reply, headers)
        except nats.errors.MaxPayloadError as error:
            most = self.client.max_payload
            raise PayloadTooLarge(
                self.target.where,
                f"a message of at most {most} bytes",
                f"{len(data)} and its headers",
                "raise max_payload in the server's configuration",
            ) from error
        except (nats.errors.Error, OSError) as error:
            raise unreachable(self.target, error) from error

    @property
    def part_bytes_max(self) -> int:
        """How many bytes one message can have beside its headers."""
        return int(self.client.max_payload) - HEADERS_BYTES

    async def close(self) -> None:
        """End it. Idempotent."""
        # Bounded: nats-py waits for the end of a TLS connection that never was one.
        with anyio.move_on_after(CLOSE_SECONDS_MAX, shield=True):
            await self.client.close()
        self.closed.set()


async def connect(target: Target, key: Signer, name: str, inbox: str) -> Connection:
    """Connect to one of the servers as the owner of `key`.

    Raises: ServerUnreachable, LoginRefused, ServerAsksNoProof, ServerTooOld, NonceRefused, OSError (of the certificate
    file).
    """
    nkey = nkey_of(key.public_key, Owner.USER)
    client, closed = _NkeyClient(nkey), anyio.Event()
    made = Connection(target, client, inbox, closed)
    causes: list[Exception] = []
    proofs: list[bytes] = []

    async def failed(error: Exception) -> None:
        causes.append(error)
        del causes[:-8]
        if "permissions violation" in str(error).lower():
            made.denied.append(str(error))
            del made.denied[:-8]

    async def ended() -> None:
        closed.set()

    def proof(nonce: str) -> bytes:
        proofs.append(signed_nonce(nonce, key))
        return proofs[-1]

    tls = None
    if target.has_tls:
        context = tls_context(target.ca_certificate_file)
        tls = None if isinstance(context, bool) else context
    try:
        await client.connect(
            [*target.urls],
            name=name,
            token=target.names.prefix,
            inbox_prefix=inbox,
            signature_cb=proof,
            tls=tls,
            tls_handshake_first=target.has_tls,
            allow_reconnect=False,
            # Each server twice, without a pause: pauses are up to the caller.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECT_SECONDS_MAX,
            ping_interval=PING_SECONDS,
            error_cb=failed,
            closed_cb=ended,
        )
        _require_proof(target, proofs)
        _require_version(target, client)
    except BaseException as error:
        await made.close()
        if isinstance(error, NatsUnusable | NonceRefused) or not isinstance(error, Exception):
            raise
        raise _why(target, nkey, [*causes, error]) from error
    return made


def _require_proof(target: Target, proofs: list[bytes]) -> None:
    if not proofs:
        raise ServerAsksNoProof(
            target.where,
            "a server that asks for the proof of a key",
            "one that lets everyone in",
            "configure it with accounts and an auth callout: `nixfleet control-plane nats-server` prints how",
        )


def _require_version(target: Target, client: Client) -> None:
    version = client.connected_server_version
    if (version.major, version.minor) < VERSION_LEAST:
        least = ".".join(map(str, VERSION_LEAST))
        found = f"{version.major}.{version.minor}.{version.patch}"
        raise ServerTooOld(
            target.where, f"nats-server {least} or later", found, "upgrade the server"
        )


def _why(target: Target, nkey: str, causes: list[Exception]) -> NatsUnusable:
    for cause in causes:
        if any(it in str(cause).lower() for it in ("authorization violation", "authentication")):
            return LoginRefused(
                target.where,
                f"to be let in with the key {nkey}",
                "a refusal, or no control plane that answers for this key",
                "check that the control plane runs and serves the same servers; the server's log has the reason",
            )
    first = next(
        (it for it in causes if not isinstance(it, nats.errors.NoServersError)), causes[-1]
    )
    return unreachable(target, first)


def unreachable(target: Target, error: Exception) -> ServerUnreachable:
    """Return the error for a server that does not answer, by its cause."""
    return ServerUnreachable(
        target.where,
        "a server that answers",
        _words(error),
        "check the address, that nats-server runs, and for tls:// its certificate and `handshake_first: true`",
    )


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "nothing that listens"
    return str(error) or type(error).__name__
