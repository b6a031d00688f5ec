"""An operator's statement on a wave, which the operator signs: data, no cryptography.

Source: docs/spec/guards.md, Approvals.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

from nixfleet_proto.checked import WordEnum, at_least, at_most, checked
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.ids import RolloutId

REASON_LENGTH_MAX: Final = 4096
SIGNED_AHEAD_MAX: Final = timedelta(seconds=60)
"""How far ahead of the control plane's clock a statement may be dated when it is received."""
WAVE_MAX: Final = 999_999
"""The highest number of a wave that a statement may name. What is signed has no integer beyond 2^53 - 1."""


class Decision(WordEnum):
    """What an operator states. PROMOTE: the wave begins without the guards that may be waived."""

    APPROVE = "approve"
    DENY = "deny"
    PROMOTE = "promote"


@frozen
@checked
class Approval:
    """The statement of `operator` on one wave of one manifest.

    manifest_hash: SHA-256 of its canonical bytes, in hex.
    """

    rollout_id: RolloutId
    wave: int
    manifest_hash: str
    operator: str
    decision: Decision
    reason: str
    signed_at: datetime

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("wave", self.wave, 0)
        yield from at_most("wave", self.wave, WAVE_MAX)
        if len(self.reason) > REASON_LENGTH_MAX:
            expected = f"at most {REASON_LENGTH_MAX} characters"
            yield ValueProblem("reason", expected, f"{len(self.reason)}")


@frozen
@checked
class SignedApproval:
    """A statement and its signature, 128 hexadecimal digits."""

    approval: Approval
    signature: str
