"""The routes of agents.

Source: docs/spec/wire.md, Calls.
"""

from functools import partial
from typing import Final
from urllib.parse import quote

from attrs import evolve, frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.answers import (
    bytes_answer,
    malformed,
    nothing,
    problem_answer,
    refusal,
)
from nixfleet_control_plane.http.authentication import Gatekeeper, HostRequest
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.query import WAIT
from nixfleet_control_plane.http.server.limits import POLL_SECONDS_MAX, Pollers
from nixfleet_control_plane.http.server.presence import until_gone
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.codec import (
    DecodeError,
    decode_envelope,
    decode_event_batch,
    encode_dispatch,
)
from nixfleet_proto.codec.wire import DISPATCH, ENVELOPE, EVENT_BATCH
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import VerifyError, verify_batch, verify_envelope
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.bodies import (
    HEARTBEAT,
    HEARTBEAT_REPLY,
    decode_heartbeat,
    encode_heartbeat_reply,
)
from nixfleet_runtime.http.headers import REPLAY_FROM
from nixfleet_runtime.http.outcomes import answer_of


@frozen
class AgentRoutes:
    """What an agent can call."""

    service: ControlPlaneService
    gatekeeper: Gatekeeper
    pollers: Pollers

    async def post_event(self, request: Request) -> Response:
        """204 once the event is durable."""
        asked = await self.gatekeeper.host(request)
        try:
            envelope = decode_envelope(asked.body)
            verify_envelope(envelope, asked.key)
        except DecodeError as error:
            raise malformed(error) from error
        except VerifyError as error:
            raise refusal(
                "envelope-signature", "The envelope is not signed", 401, str(error)
            ) from error
        return await self._take(asked, (envelope,))

    async def post_event_batch(self, request: Request) -> Response:
        """204 once every event is durable."""
        asked = await self.gatekeeper.host(request)
        try:
            batch = decode_event_batch(asked.body)
            verify_batch(batch, asked.key)
        except DecodeError as error:
            raise malformed(error) from error
        except VerifyError as error:
            raise refusal(
                "envelope-signature", "The batch is not signed", 401, str(error)
            ) from error
        return await self._take(asked, _with_batch_signature(batch))

    async def _take(
        self, asked: HostRequest, envelopes: tuple[AgentEventEnvelope, ...]
    ) -> Response:
        for envelope in envelopes:
            _require_own(asked, envelope.hostname)
        outcome = await self.service.take_events(asked.hostname, envelopes)
        stopped = answer_of(outcome)
        return nothing() if stopped is None else problem_answer(stopped.problem, stopped.headers)

    async def next_dispatch(self, request: Request) -> Response:
        """200 with the dispatch that waits, or 204 when none came in `wait` seconds."""
        asked = await self.gatekeeper.host(request)
        wait_seconds = min(WAIT.of(request), POLL_SECONDS_MAX)
        with self.pollers.waiting(asked.hostname):
            dispatch = await self.service.next_dispatch(
                asked.hostname, wait_seconds, partial(until_gone, request)
            )
        if dispatch is None:
            return nothing()
        return bytes_answer(encode_dispatch(dispatch), "application/json")

    async def heartbeat(self, request: Request) -> Response:
        """200 with what the two sides need to come together."""
        asked = await self.gatekeeper.host(request)
        try:
            heartbeat = decode_heartbeat(asked.body)
        except DecodeError as error:
            raise malformed(error) from error
        _require_own(asked, heartbeat.hostname)
        reply = await self.service.compare(heartbeat)
        answer = bytes_answer(encode_heartbeat_reply(reply), "application/json")
        if reply.replay_from:
            answer.headers[REPLAY_FROM] = ", ".join(
                # A header carries ASCII, and a ref may be anything.
                f"{quote(replay.rollout_id, safe='@/')}={replay.first_missing_seq}"
                for replay in reply.replay_from
            )
        return answer

    async def manifest(self, request: Request) -> Response:
        """200 with the manifest, byte for byte as it was signed."""
        await self.gatekeeper.host(request)
        artefact = await self.service.manifest(request.path_params["rollout_id"])
        if artefact is None:
            raise _no_manifest(request)
        return bytes_answer(artefact.body, "application/json")

    async def manifest_signature(self, request: Request) -> Response:
        """200 with the 64 bytes of the manifest's signature."""
        await self.gatekeeper.host(request)
        artefact = await self.service.manifest(request.path_params["rollout_id"])
        if artefact is None:
            raise _no_manifest(request)
        return bytes_answer(artefact.signature, "application/octet-stream")


_STOPPED = (
    Answer(
        409,
        "an event is missing before the one that stopped the rest, or it does not apply; "
        "`accepted` says how many were taken before it",
        headers=FrozenMap({REPLAY_FROM: "of a gap: the first seq that is missing"}),
    ),
    Answer(404, "this host is in no such rollout that is known here"),
)
_MANIFEST_UNKNOWN = Answer(404, "no such rollout is in force")

AGENT_CALLS: Final[tuple[Call[AgentRoutes], ...]] = (
    Call(
        "POST",
        paths.AGENT_EVENTS,
        AgentRoutes.post_event,
        Caller.HOST,
        (Answer(204, "the event is durable, or was"), *_STOPPED),
        takes=ENVELOPE,
    ),
    Call(
        "POST",
        paths.AGENT_EVENT_BATCHES,
        AgentRoutes.post_event_batch,
        Caller.HOST,
        (Answer(204, "all events are durable, or were"), *_STOPPED),
        takes=EVENT_BATCH,
    ),
    Call(
        "GET",
        paths.AGENT_DISPATCH,
        AgentRoutes.next_dispatch,
        Caller.HOST,
        (
            Answer(200, "what the host is to activate", DISPATCH),
            Answer(204, "nothing came in time"),
            Answer(429, "the host has as many polls open as it may"),
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
                "what each side has and the other lacks",
                HEARTBEAT_REPLY,
                FrozenMap(
                    {
                        REPLAY_FROM: "if events are missing here: a rollout id, percent-encoded, '=' and the "
                        "first seq, of each; as `replay_from` in the body"
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


def _with_batch_signature(batch: EventBatch) -> tuple[AgentEventEnvelope, ...]:
    """The signature is kept on the batch's last row, with where it starts.

    Source: docs/spec/trust.md, Event signatures.
    """
    first, *_ = batch.events
    kept = f"{batch.signature};batch-from={first.event.seq}"
    return (*batch.events[:-1], evolve(batch.events[-1], signature=kept))


def _require_own(asked: HostRequest, hostname: str) -> None:
    if hostname != asked.hostname:
        raise refusal(
            "another-host",
            "Hosts speak for themselves",
            403,
            f"expected what {asked.hostname} says about itself, found {hostname!r}",
        )


def _no_manifest(request: Request) -> Exception:
    rollout_id = request.path_params["rollout_id"]
    return refusal(
        "rollout-unknown", "The rollout is unknown", 404, f"no manifest of {rollout_id!r}"
    )
