"""The bodies of heartbeats and their replies.

Source: docs/spec/wire.md, POST /v1/agent/heartbeat.
"""

from typing import Final

from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_runtime.http.request_limits import RequestCoder
from nixfleet_runtime.storage.record_codec import RECORD_SPELLING
from nixfleet_runtime.transport import Heartbeat, HeartbeatReply

REFUSALS_MAX: Final = 8
REASON_LENGTH_MAX: Final = 512
ROLLOUT_ID_LENGTH_MAX: Final = 512
"""Of the refusals in a heartbeat, as an agent sends them. So many of such length fit into one, however they are
escaped; a heartbeat that is too large is refused, and then no answer could end the refusals."""


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """Return a heartbeat as JSON: `hostname`, `currentClosure`, `lastSeqs` by rollout id, `refusals` if any."""
    return HEARTBEAT.encode(heartbeat)


def decode_heartbeat(data: bytes) -> Heartbeat:
    """Return the heartbeat that `data` holds. Raises: DecodeError."""
    return HEARTBEAT.decode(data)


def encode_heartbeat_reply(reply: HeartbeatReply) -> bytes:
    """Return the reply to a heartbeat as JSON: `received_at`, `bootstrap_rollouts`, `replay_from`, `release`,
    `resting`.

    Names are in snake_case, as in the records that it carries.
    """
    return HEARTBEAT_REPLY.encode(reply)


def decode_heartbeat_reply(data: bytes) -> HeartbeatReply:
    """Return the reply that `data` holds. Raises: DecodeError."""
    return HEARTBEAT_REPLY.decode(data)


HEARTBEAT: Final = RequestCoder[Heartbeat](
    Spelling(camel_case, Absent.LEFT_OUT_AS_ANY_DEFAULT), Heartbeat, "heartbeat"
)
HEARTBEAT_REPLY: Final = Coder[HeartbeatReply](
    RECORD_SPELLING, HeartbeatReply, "answer to a heartbeat"
)
