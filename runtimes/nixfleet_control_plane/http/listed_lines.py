"""Rows of the log as the lines that operators' calls list: at most one fact each, with what happened in words.

Source: docs/spec/log.md, Lines.
"""

from collections.abc import Iterator, Mapping

from nixfleet_control_plane.history.line_types import AsksApproval, type_of
from nixfleet_control_plane.history.narration import actor_of, told
from nixfleet_control_plane.messages.entry_codec import DamagedRow, entry_of, row_of
from nixfleet_control_plane.messages.log_entry import LogRow, lines_of
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.codec import parse_json, parse_time
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import APPROVALS
from nixfleet_runtime.http.line_types import LineType
from nixfleet_runtime.http.listings import ListedRow


def asks_approval(service: ControlPlaneService) -> AsksApproval:
    """Return what says whether a wave of a rollout waits for approvals now."""

    def asks(rollout_id: RolloutId, wave: int) -> bool:
        found = service.guarded(rollout_id)
        return (
            found is not None
            and found.guarded.wave == wave
            and any(
                guard.name == APPROVALS and not guard.state.lets_begin
                for guard in found.guarded.guards
            )
        )

    return asks


def listed_lines(row: LogRow, asks: AsksApproval) -> Iterator[ListedRow]:
    """Yield the lines of a row; of one that this version cannot read, the row as it is stored, which says so."""
    try:
        lines = lines_of(entry_of(row))
    except DamagedRow as error:
        yield _listed(row, "verifier", f"cannot read this row: {error}", LineType.LOG_DAMAGED)
        return
    for line in lines:
        yield _listed(
            row_of(line.seq, line.at, line.entry),
            actor_of(line.entry),
            told(line.entry),
            type_of(line.entry, asks),
        )


def _listed(row: LogRow, actor: str, text: str, line_type: LineType) -> ListedRow:
    payload = parse_json(row.payload.encode())
    assert isinstance(payload, Mapping), row
    return ListedRow(
        row.seq,
        parse_time(row.ts),
        row.kind,
        FrozenMap(payload),
        row.host_id,
        row.signature,
        row.rollout_id,
        actor,
        text,
        line_type.value,
        line_type.severity.value,
    )
