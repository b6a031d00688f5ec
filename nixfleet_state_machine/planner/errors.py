"""Errors of the fleet view and the planner: the call names a rollout or a host that the view does not have.

They are `KeyError`s too, for callers that look things up.
"""

from collections.abc import Iterable

from nixfleet_proto.errors import NixfleetError

NAMED_MAX = 5


class UnknownRollout(NixfleetError, KeyError):
    """The view has no open rollout of this id. open_rollouts: those it has, sorted."""

    def __init__(self, rollout_id: str, open_rollouts: Iterable[str]) -> None:
        self.rollout_id = rollout_id
        self.open_rollouts: tuple[str, ...] = tuple(sorted(map(str, open_rollouts)))
        super().__init__(rollout_id, self.open_rollouts)

    def __str__(self) -> str:
        return (
            f"rollout {str(self.rollout_id)!r} is not open in this view: expected {_one_of(self.open_rollouts)}. "
            "FleetView.open adds one"
        )


class UnknownHost(NixfleetError, KeyError):
    """No terms name this host. rollout_id: the rollout that was asked for; `None`: any. hosts: those named, sorted."""

    def __init__(self, hostname: str, rollout_id: str | None, hosts: Iterable[str]) -> None:
        self.hostname = hostname
        self.rollout_id = rollout_id
        self.hosts: tuple[str, ...] = tuple(sorted(map(str, hosts)))
        super().__init__(hostname, rollout_id, self.hosts)

    def __str__(self) -> str:
        where = "any open rollout" if self.rollout_id is None else f"rollout {self.rollout_id}"
        return f"host {self.hostname!r} is not part of {where}: expected {_one_of(self.hosts)}"


class AlreadyOpen(NixfleetError):
    """The rollout was opened in this view before; `FleetView.set_rollout` replaces its record."""

    def __init__(self, rollout_id: str) -> None:
        super().__init__(rollout_id)
        self.rollout_id = rollout_id

    def __str__(self) -> str:
        return f"rollout {self.rollout_id} is open already: replace its record with FleetView.set_rollout"


def _one_of(names: tuple[str, ...]) -> str:
    if not names:
        return "an open rollout, and there is none"
    more = len(names) - NAMED_MAX
    return "one of " + ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
