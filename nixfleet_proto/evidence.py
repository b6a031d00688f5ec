"""What a collector found out about a host, control by control. Frozen data; the host's key signs it.

Source: docs/spec/trust.md, Evidence.
"""

from datetime import datetime

from attrs import frozen

from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.checked import checked
from nixfleet_proto.fleet import SCHEMA_VERSION

EVIDENCE_BYTES_MAX = 4 * 1024 * 1024
"""The largest evidence file that is signed or judged."""


@frozen
@checked
class ControlFinding:
    """Whether a host satisfies one control of a framework. reason: what was found, for people."""

    control_id: str
    framework: str
    status: ProbeStatus
    article: str | None = None
    reason: str | None = None


@frozen
@checked
class Evidence:
    """The content of an evidence file: all findings of one round, of any frameworks."""

    collected_at: datetime
    controls: tuple[ControlFinding, ...]
    schema_version: int = SCHEMA_VERSION
