"""Which lines of the log a hook is told of. Pure.

A line must match every list that is not empty. A line about no rollout concerns the whole fleet, so no choice of
channels or rollouts hides it.
Source: docs/spec/notifications.md, Filters.
"""

from attrs import frozen

from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.listings import ListedRow

_RANKS = {str(it): it.rank for it in Severity}


@frozen
class HookFilter:
    """What a hook is told of. severity: the least. types, kinds, channels, rollouts: any of them; empty: all."""

    severity: Severity = Severity.ACT
    types: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    rollouts: tuple[str, ...] = ()

    def wants(self, line: ListedRow) -> bool:
        """Return whether the hook is told of `line`."""
        return (
            rank_of(line) >= self.severity.rank
            and _is_in(line.type, self.types)
            and _is_in(line.kind, self.kinds)
            and self._is_of_ours(line.rollout_id)
        )

    def wants_need(self, need_type: str, severity: Severity, rollout_id: str | None) -> bool:
        """Return whether the hook is told of a need. It is no line, so a choice of kinds of lines leaves it out."""
        return (
            severity.rank >= self.severity.rank
            and _is_in(need_type, self.types)
            and not self.kinds
            and self._is_of_ours(rollout_id)
        )

    def _is_of_ours(self, rollout_id: str | None) -> bool:
        return rollout_id is None or (
            _is_in(rollout_id.partition("@")[0], self.channels)
            and _is_in(rollout_id, self.rollouts)
        )


def rank_of(line: ListedRow) -> int:
    """Return how much `line` matters. A severity that this version does not know counts as the highest."""
    return _RANKS.get(line.severity or "", Severity.ACT.rank)


def _is_in(value: str | None, wanted: tuple[str, ...]) -> bool:
    return not wanted or value in wanted
