"""What a judge of checks is: asked a question, it answers. The port that embedders implement.

Source: docs/how-to/embedding.md, Judges; docs/spec/guards.md, Judges.
"""

from typing import Protocol

from attrs import frozen

from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import Check
from nixfleet_state_machine.rollout.guard_tally import Outcome


@frozen
class Question:
    """A check of a wave that waits to begin."""

    rollout_id: RolloutId
    wave: int
    check: Check


@frozen
class Answer:
    """What a judge says. reason: for people. evidence: what it was told by, such as a value."""

    outcome: Outcome
    reason: str
    evidence: str = ""


class Judge(Protocol):
    """Answers questions. It must come to an end by itself, and must not change anything."""

    async def ask(self, question: Question) -> Answer:
        """Return the answer. Whatever it raises is taken for `inconclusive`, with the reason."""
        ...


def unclear(reason: str, evidence: str = "") -> Answer:
    """Return the answer of who cannot tell: it never passes."""
    return Answer(Outcome.INCONCLUSIVE, reason, evidence)
