"""The transport over HTTP: every request is signed, every envelope too.

An answer that states the result of a request is returned; everything else raises `TransportFailed`, and the caller
repeats the request. Nothing is retried here: the workers decide how long to wait.
Source: docs/spec/wire.md, Calls; docs/spec/trust.md, Request signatures.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from ssl import SSLContext

import httpx2

from nixfleet_agent.network.answers import enrollment_failure, failure_of, poll_seconds_max
from nixfleet_agent.network.enrollment import NOT_KNOWN
from nixfleet_proto.codec import (
    DecodeError,
    decode_dispatch,
    encode_enroll_request,
    encode_envelope,
    encode_event_batch,
)
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_proto.signing import SigningKey, sign_batch, sign_envelope
from nixfleet_proto.wire import (
    AgentEventEnvelope,
    Dispatch,
    EventBatch,
    SignedArtefact,
)
from nixfleet_runtime.http.bodies import decode_heartbeat_reply, encode_heartbeat
from nixfleet_runtime.http.client import (
    NoAnswer,
    SignedSender,
    signed_client,
)
from nixfleet_runtime.http.headers import RETRY_AFTER
from nixfleet_runtime.http.outcomes import outcome_of
from nixfleet_runtime.http.paths import (
    AGENT_DISPATCH,
    AGENT_EVENT_BATCHES,
    AGENT_EVENTS,
    AGENT_HEARTBEAT,
    ENROLL,
    rollout_path,
)
from nixfleet_runtime.http.problem import decode_problem
from nixfleet_runtime.http.signing.key_id import host_key_id
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.releases.layout import MANIFEST_BYTES_MAX
from nixfleet_runtime.transport import (
    ANSWER_SECONDS_MAX,
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    TransportFailed,
)


class HttpTransport:
    """One host's signed way to its control plane. A `Transport`; made by `connected`."""

    def __init__(self, client: SignedSender, key: SigningKey) -> None:
        self._client = client
        self._key = key
        self._on_not_known: Callable[[], None] = lambda: None

    def when_not_known(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever an answer says that the control plane does not know this host's key."""
        self._on_not_known = call

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        """Return the outcome for `envelopes`. Raises: TransportFailed."""
        if len(envelopes) == 1:
            body = encode_envelope(sign_envelope(envelopes[0], self._key))
            answer = await self._send("POST", AGENT_EVENTS, body)
        else:
            body = encode_event_batch(sign_batch(EventBatch(envelopes), self._key))
            answer = await self._send("POST", AGENT_EVENT_BATCHES, body)
        if answer.status_code == httpx2.codes.NO_CONTENT:
            return EventsOutcome(len(envelopes))
        outcome = outcome_of(decode_problem(answer.content, answer.status_code))
        if outcome is None:
            raise _failed(answer)
        return outcome

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        """Return the dispatch that waits for this host. Raises: TransportFailed."""
        path = f"{AGENT_DISPATCH}?wait={max(0, round(wait_seconds))}"
        answer = await self._send("GET", path, answer_seconds_max=poll_seconds_max(wait_seconds))
        if answer.status_code == httpx2.codes.NO_CONTENT:
            return None
        with _reading(answer):
            return decode_dispatch(_content(answer))

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Return what the two sides need to come together. Raises: TransportFailed."""
        answer = await self._send("POST", AGENT_HEARTBEAT, encode_heartbeat(heartbeat))
        with _reading(answer):
            return decode_heartbeat_reply(_content(answer))

    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        """Return the manifest as it was signed. Raises: TransportFailed.

        Body and signature are two calls; a manifest that is signed anew in between does not verify, and is
        fetched again by who needs it.
        """
        path = rollout_path(rollout_id)
        body = await self._send("GET", path, answer_bytes_max=MANIFEST_BYTES_MAX)
        if body.status_code == httpx2.codes.NOT_FOUND:
            return None
        signature = await self._send("GET", rollout_path(rollout_id, "/signature"))
        return SignedArtefact(_content(body), _content(signature))

    async def enroll(self, request: EnrollRequest) -> None:
        """Enroll this host with the key in `request`, which must be this transport's.

        Raises: EnrollmentRefused; TransportFailed, also when the control plane is overloaded.
        """
        answer = await self._send("POST", ENROLL, encode_enroll_request(request))
        if not answer.is_success:
            raise enrollment_failure(
                decode_problem(answer.content, answer.status_code),
                _retry_after_seconds(answer.headers),
            )

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
        answer_bytes_max: int | None = None,
    ) -> httpx2.Response:
        try:
            answer = await self._client.send(
                method,
                path,
                body,
                answer_seconds_max=answer_seconds_max,
                answer_bytes_max=answer_bytes_max,
            )
        except NoAnswer as error:
            raise TransportFailed(str(error), kind=error.kind) from error
        if answer.status_code == httpx2.codes.UNAUTHORIZED and _failed(answer).kind in NOT_KNOWN:
            self._on_not_known()
        return answer


@asynccontextmanager
async def connected(
    base_url: str,
    hostname: str,
    key: SigningKey,
    clock: Clock,
    *,
    tls: SSLContext | bool = True,
) -> AsyncIterator[HttpTransport]:
    """Yield a transport to the control plane at `base_url`, or to whichever of several there leads.

    tls: the context for the server's certificate; `True` for the system's certificate authorities.
    """
    async with signed_client(base_url, host_key_id(hostname), key, clock, tls=tls) as client:
        yield HttpTransport(client, key)


def _content(answer: httpx2.Response) -> bytes:
    if answer.status_code != httpx2.codes.OK:
        raise _failed(answer)
    return answer.content


@contextmanager
def _reading(answer: httpx2.Response) -> Iterator[None]:
    try:
        yield
    except DecodeError as error:
        raise TransportFailed(f"the answer of {answer.url.path} cannot be read: {error}") from error


def _failed(answer: httpx2.Response) -> TransportFailed:
    problem = decode_problem(answer.content, answer.status_code)
    return failure_of(problem, _retry_after_seconds(answer.headers))


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `Retry-After`, in either form of RFC 9110; a date is relative to the answer's."""
    asked = headers.get(RETRY_AFTER, "")
    if asked.isascii() and asked.isdecimal():
        return float(asked)
    try:
        until, now = (parsedate_to_datetime(text) for text in (asked, headers.get("Date", "")))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None  # one of them is not a date, or has no time zone
