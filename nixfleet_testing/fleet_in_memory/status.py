"""What an in-memory fleet knows about its hosts and rollouts, and the table that prints it. For reading."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from attrs import frozen

from nixfleet_control_plane.engine.state import State
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import GateBlock
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_testing.fleet_in_memory.errors import UnknownName

ValueT = TypeVar("ValueT")


@frozen
class HostStatus:
    """One host as the control plane knows it, and what really runs on it.

    record: in the newest rollout of its channel; `None` before the first one. waits: the gate that holds it.
    """

    name: str
    channel: str
    wave: int
    running: str
    is_on: bool
    record: HostRolloutState | None
    waits: GateBlock | None

    @property
    def state(self) -> HostState | None:
        """Its state in the newest rollout of its channel."""
        return None if self.record is None else self.record.state


class ByName(Mapping[str, ValueT]):
    """A mapping whose error for an unknown key says which keys there are."""

    def __init__(self, kind: str, values: Mapping[str, ValueT]) -> None:
        self._kind = kind
        self._values = values

    def __getitem__(self, name: str) -> ValueT:
        if name not in self._values:
            raise UnknownName(self._kind, name, self._values)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<{len(self)} by name: {', '.join(self)}>"


def waiting_reason(state: State, record: HostRolloutState) -> GateBlock | None:
    """Return the gate that holds the host of `record`, as the planner last decided."""
    deferral = state.deferrals.get((record.rollout_id, record.hostname))
    return None if deferral is None else GateBlock(deferral.gate, deferral.reason)


def host_table(hosts: Iterable[HostStatus]) -> Iterator[str]:
    """Yield a table of `hosts`, line by line."""
    rows = [
        (
            host.name + ("" if host.is_on else " (off)"),
            host.channel,
            str(host.wave),
            "-" if host.state is None else str(host.state),
            host.running,
            "" if host.waits is None else f"{host.waits.gate}: {host.waits.reason}",
        )
        for host in hosts
    ]
    return _table(("host", "channel", "wave", "state", "runs", "waits for"), rows)


def rollout_table(rollouts: Iterable[RolloutRecord]) -> Iterator[str]:
    """Yield a table of `rollouts`, line by line."""
    rows = [
        (
            record.rollout_id,
            str(record.state),
            str(record.current_wave),
            ", ".join(sorted(record.excused_hosts)),
        )
        for record in rollouts
    ]
    return _table(("rollout", "state", "wave", "excused"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
