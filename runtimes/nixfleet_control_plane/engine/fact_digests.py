"""Digests of the latest facts of each host: they show when a number comes twice with different content.

In memory only. A fact that is older than the digests here, or was taken by the process before, is not compared.
Source: docs/spec/runtimes.md, Control plane.
"""

from collections.abc import Sequence
from typing import Final

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.undo import UndoableDict, UndoLog

KEPT_MAX: Final = 32
"""How many facts of a host in a rollout are remembered: more than a whole rollout without trouble has."""
_LENGTH: Final = 4


class FactDigests:
    """For each host in a rollout, the digests of its latest facts, in order."""

    def __init__(self, undo: UndoLog) -> None:
        self._digests = UndoableDict[tuple[RolloutId, str], bytes](undo)

    def note(self, key: tuple[RolloutId, str], facts: Sequence[AgentEvent]) -> None:
        """The record of `key` has taken the numbers of `facts`, in order."""
        known = self._digests.get(key, b"") + b"".join(map(_digest, facts))
        self._digests.set(key, known[-_LENGTH * KEPT_MAX :])

    def is_contradicted_by(
        self, key: tuple[RolloutId, str], fact: AgentEvent, last_event_seq: int
    ) -> bool:
        """Return whether another fact has the number of `fact`; `last_event_seq` is the record's."""
        known = self._digests.get(key, b"")
        start = len(known) - _LENGTH * (last_event_seq - fact.seq + 1)
        return start >= 0 and known[start : start + _LENGTH] != _digest(fact)

    def is_known(self, key: tuple[RolloutId, str], fact: AgentEvent, last_event_seq: int) -> bool:
        """Return whether `fact` was taken by its number, as far as that is remembered."""
        known = self._digests.get(key, b"")
        start = len(known) - _LENGTH * (last_event_seq - fact.seq + 1)
        return start >= 0 and known[start : start + _LENGTH] == _digest(fact)

    def forget(self, key: tuple[RolloutId, str]) -> None:
        """The rollout is pruned."""
        self._digests.discard(key)


def _digest(fact: AgentEvent) -> bytes:
    # Python's hashes of texts have a key of the process, so that no host can aim at one.
    return (hash(fact) & 0xFFFFFFFF).to_bytes(_LENGTH, "little")
