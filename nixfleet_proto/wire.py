"""What agents and the control plane say to each other. Frozen data; `codec` turns it into bytes.

Source: docs/spec/wire.md, Events and envelopes.
"""

from datetime import datetime

from attrs import frozen

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.checked import checked

PROTOCOL_VERSION = 1
BATCH_LENGTH_MAX = 256


@frozen
@checked
class AgentEventEnvelope:
    """A fact, who says so, and in which rollout.

    rollout_id: as the agent wrote it. Not required to be well-formed: one that names no rollout is
    answered as unknown (404), exactly as the reference does.
    signature: hex, over the canonical JSON of `{hostname, rolloutId, event}`.
    """

    hostname: str
    rollout_id: str
    event: AgentEvent
    signature: str | None = None


@frozen
@checked
class EventBatch:
    """Up to `BATCH_LENGTH_MAX` events of one host and rollout, in order, with one signature over the whole.

    signature: hex, over the canonical JSON of `{events}`; the envelopes themselves carry none.
    """

    events: tuple[AgentEventEnvelope, ...]
    signature: str | None = None


@frozen
@checked
class Dispatch:
    """An order waiting for a host: activate `target_closure`. The agent checks it against the manifest.

    attempt: from 2; `None` is the first.
    """

    hostname: str
    rollout_id: str
    target_closure: str
    soak_due_at: datetime
    enqueued_at: datetime
    attempt: int | None = None

    @property
    def attempt_number(self) -> int:
        """The attempt as a number, from 1."""
        return self.attempt or 1


@frozen
@checked
class SignedArtefact:
    """An artefact exactly as it was signed, with its detached signature."""

    body: bytes
    signature: bytes
