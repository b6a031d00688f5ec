"""The routes of agents.

Source: docs/spec/wire.md, Calls.
"""

from functools import partial
from typing import Final
from urllib.parse import quote

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.answers import (
    bytes_answer,
    malformed,
    no_content,
    problem_answer,
    refusal,
)
from nixfleet_control_plane.http.authentication import Authenticator, HostRequest
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.query import WAIT
from nixfleet_control_plane.http.server.limits import (
    HEARTBEAT_BYTES_MAX,
    POLL_SECONDS_MAX,
    Pollers,
)
from nixfleet_control_plane.http.server.presence import until_gone
from nixfleet_control_plane.messages.inputs import Signed
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.codec import (
    DecodeError,
    encode_dispatch,
    receive_envelope,
    receive_event_batch,
)
from nixfleet_proto.codec.primitives import shown
from nixfleet_proto.codec.wire import DISPATCH, ENVELOPE, EVENT_BATCH
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import VerifyError, verify_payload
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.bodies import (
    HEARTBEAT,
    HEARTBEAT_REPLY,
    decode_heartbeat,
    encode_heartbeat_reply,
)
from nixfleet_runtime.http.headers import REPLAY_FROM, RETRY_AFTER
from nixfleet_runtime.http.outcomes import answer_of


@frozen
class AgentRoutes:
    """The calls of an agent."""

    service: ControlPlaneService
    authenticator: Authenticator
    pollers: Pollers

    async def post_event(self, request: Request) -> Response:
        """204 once the event is durable."""
        asked = await self.authenticator.host(request, body_bytes_max=None)
        try:
            received = receive_envelope(asked.body)
            verify_payload(received.payload, received.message.signature, asked.key)
        except DecodeError as error:
            raise malformed(error) from error
        except VerifyError as error:
            raise refusal(
                "envelope-signature", "The envelope is not signed", 401, str(error)
            ) from error
        signed = Signed(received.payload, received.message.signature)
        return await self._take(asked, (received.message,), signed)

    async def post_event_batch(self, request: Request) -> Response:
        """204 once every event is durable."""
        asked = await self.authenticator.host(request, body_bytes_max=None)
        try:
            received = receive_event_batch(asked.body)
            verify_payload(received.payload, received.message.signature, asked.key)
        except DecodeError as error:
            raise malformed(error) from error
        except VerifyError as error:
            raise refusal(
                "envelope-signature", "The batch is not signed", 401, str(error)
            ) from error
        signed = Signed(received.payload, received.message.signature)
        return await self._take(asked, received.message.events, signed)

    async def _take(
        self, asked: HostRequest, envelopes: tuple[AgentEventEnvelope, ...], signed: Signed
    ) -> Response:
        self.authenticator.count_events(asked.hostname, len(envelopes))
        for envelope in envelopes:
            _require_own(asked, envelope.hostname)
        outcome = await self.service.take_events(asked.hostname, envelopes, signed)
        stopped = answer_of(outcome)
        return no_content() if stopped is None else problem_answer(stopped.problem, stopped.headers)

    async def next_dispatch(self, request: Request) -> Response:
        """200 with the host's queued dispatch; 204 when none arrives in `wait` seconds."""
        asked = await self.authenticator.host(request)
        wait_seconds = min(WAIT.of(request), POLL_SECONDS_MAX)
        with self.pollers.waiting(asked.hostname):
            dispatch = await self.service.next_dispatch(
                asked.hostname, wait_seconds, partial(until_gone, request)
            )
        self.authenticator.require_current(asked.hostname, asked.key)
        if dispatch is None:
            return no_content()
        return bytes_answer(encode_dispatch(dispatch), "application/json")

    async def heartbeat(self, request: Request) -> Response:
        """200 with what each side lacks of the other's records."""
        asked = await self.authenticator.host(request, body_bytes_max=HEARTBEAT_BYTES_MAX)
        try:
            heartbeat = decode_heartbeat(asked.body)
        except DecodeError as error:
            raise malformed(error) from error
        _require_own(asked, heartbeat.hostname)
        reply = await self.service.compare(asked.hostname, heartbeat)
        answer = bytes_answer(encode_heartbeat_reply(reply), "application/json")
        if reply.replay_from:
            answer.headers[REPLAY_FROM] = ", ".join(
                # A header is ASCII, but a channel ref may contain any character.
                f"{quote(replay.rollout_id, safe='@/')}={replay.first_missing_seq}"
                for replay in reply.replay_from
            )
        return answer

    async def manifest(self, request: Request) -> Response:
        """200 with the manifest, byte for byte as it was signed."""
        asked = await self.authenticator.host(request)
        artefact = await self.service.manifest(request.path_params["rollout_id"], asked.hostname)
        if artefact is None:
            raise _no_manifest(request)
        return bytes_answer(artefact.body, "application/json")

    async def manifest_signature(self, request: Request) -> Response:
        """200 with the 64 bytes of the manifest's signature."""
        asked = await self.authenticator.host(request)
        artefact = await self.service.manifest(request.path_params["rollout_id"], asked.hostname)
        if artefact is None:
            raise _no_manifest(request)
        return bytes_answer(artefact.signature, "application/octet-stream")


_STOPPED = (
    Answer(
        409,
        "an event does not apply, cannot be true yet, or an earlier one is missing; "
        "`accepted` is the number of events that were accepted before it",
        headers=FrozenMap(
            {
                REPLAY_FROM: "after a gap: the first missing seq",
                RETRY_AFTER: "of an event that is early: the seconds until it can be true",
            }
        ),
    ),
    Answer(404, "the rollout is unknown, or this host is not in it"),
)
_MANIFEST_UNKNOWN = Answer(404, "no manifest of this rollout is in force")

AGENT_CALLS: Final[tuple[Call[AgentRoutes], ...]] = (
    Call(
        "POST",
        paths.AGENT_EVENTS,
        AgentRoutes.post_event,
        Caller.HOST,
        (Answer(204, "the event is durable; a duplicate was durable before"), *_STOPPED),
        takes=ENVELOPE,
    ),
    Call(
        "POST",
        paths.AGENT_EVENT_BATCHES,
        AgentRoutes.post_event_batch,
        Caller.HOST,
        (Answer(204, "all events are durable; duplicates were durable before"), *_STOPPED),
        takes=EVENT_BATCH,
    ),
    Call(
        "GET",
        paths.AGENT_DISPATCH,
        AgentRoutes.next_dispatch,
        Caller.HOST,
        (
            Answer(200, "the closure that the host must activate", DISPATCH),
            Answer(204, "no dispatch arrived in time"),
            Answer(429, "the host has reached its limit of open polls"),
        ),
        query=(WAIT,),
    ),
    Call(
        "POST",
        paths.AGENT_HEARTBEAT,
        AgentRoutes.heartbeat,
        Caller.HOST,
        (
            Answer(
                200,
                "what each side lacks of the other's records",
                HEARTBEAT_REPLY,
                FrozenMap(
                    {
                        REPLAY_FROM: "if the control plane lacks events: for each rollout its percent-encoded id, "
                        "'=' and the first missing seq; as `replay_from` in the body"
                    }
                ),
            ),
        ),
        takes=HEARTBEAT,
    ),
    Call(
        "GET",
        paths.ROLLOUTS + "/{rollout_id}",
        AgentRoutes.manifest,
        Caller.HOST,
        (Answer(200, "the manifest", "application/json"), _MANIFEST_UNKNOWN),
    ),
    Call(
        "GET",
        paths.ROLLOUTS + "/{rollout_id}/signature",
        AgentRoutes.manifest_signature,
        Caller.HOST,
        (Answer(200, "64 bytes", "application/octet-stream"), _MANIFEST_UNKNOWN),
    ),
)


def _require_own(asked: HostRequest, hostname: str) -> None:
    if hostname != asked.hostname:
        raise refusal(
            "another-host",
            "A host may report only about itself",
            403,
            f"expected hostname {asked.hostname!r}, found {shown(hostname)}",
        )


def _no_manifest(request: Request) -> Exception:
    rollout_id = request.path_params["rollout_id"]
    return refusal(
        "rollout-unknown",
        "The rollout is unknown",
        404,
        f"no manifest of {str(rollout_id)!r} is in force",
    )
