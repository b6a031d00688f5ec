"""The values of the buckets that only others read: who a host is, where it is in a rollout, when it was heard. Pure.

Source: docs/spec/nats.md, Buckets.
"""

import json
from datetime import datetime

from nixfleet_nats.names import token_of
from nixfleet_nats.positions import Position
from nixfleet_proto.codec import format_time
from nixfleet_proto.signing import fingerprint_of
from nixfleet_proto.trust import TrustedKey
from nixfleet_state_machine.host.state import HostRolloutState


def state_key(hostname: str, rollout_id: str) -> str:
    """Return the key of a host in a rollout."""
    return f"{token_of(hostname)}.{token_of(rollout_id)}"


def encode_state(position: Position, record: HostRolloutState) -> bytes:
    """Return where a host is in a rollout. position: of the log when it came there, or later."""
    return _json(
        {
            "epoch": position.epoch,
            "eventLogSeq": position.event_log_seq,
            "hostname": record.hostname,
            "rolloutId": record.rollout_id,
            "channel": record.channel,
            "state": record.state.value,
            "currentClosure": record.current_closure,
            "targetClosure": record.target_closure,
            "attempt": record.attempt,
        }
    )


def encode_info(hostname: str, key: TrustedKey, connected_at: datetime) -> bytes:
    """Return who a host is."""
    return _json(
        {
            "hostname": hostname,
            "fingerprint": fingerprint_of(key),
            "connectedAt": format_time(connected_at),
        }
    )


def encode_heartbeat(heard_at: datetime) -> bytes:
    """Return when a host was heard last. Short, for it is written often."""
    return _json({"at": format_time(heard_at)})


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
