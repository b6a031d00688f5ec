"""The answer of the gate for a host that is held: by whom, why, and until when. Pure.

The reason names the first hold; the detail names the others. The reasons of pauses are those of before there were other
holds.
Source: docs/spec/holds.md, What is shown.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import assert_never

from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    FleetScope,
    GroupScope,
    HoldScope,
    HostScope,
    RolloutScope,
    WaveScope,
)


def block_of(holds: Sequence[Hold]) -> GateBlock | None:
    """Return the block for a host on which all of `holds` are, in order; `None` if there are none.

    Its `until` is the end of the last one, `None` if one of them has no end: nothing begins before all are over.
    """
    if not holds:
        return None
    ends = [hold.until for hold in holds]
    known = [end for end in ends if end is not None]
    until = max(known) if len(known) == len(ends) else None
    detail = "; ".join(f"also: {words_of(hold)}" for hold in holds[1:])
    return GateBlock(Gate.OPERATOR_HOLD, words_of(holds[0]), detail, until)


def words_of(hold: Hold) -> str:
    """Return who holds what, until when and why, in one line."""
    where, kind = scope_words(hold.scope), hold.source.kind
    if kind is HoldKind.DEVICE:
        # Without its end, which is new with each answer of the device: `until` of the block has it.
        return _with_reason(f"{where} is locked by its own device", hold)
    if isinstance(hold.scope, HostScope) and not kind.is_by_calendar:
        return _with_reason(f"{where} is held{_until(hold.until)}", hold)
    match kind:
        case HoldKind.OPERATOR:
            # A pause is a hold without an end of what can be paused: `pause` knows neither the fleet nor a wave.
            can_be_paused = not isinstance(hold.scope, FleetScope | WaveScope)
            verb = "paused" if hold.until is None and can_be_paused else "holds"
            return _with_reason(f"an operator {verb} {where}{_until(hold.until)}", hold)
        case HoldKind.FREEZE:
            return f"{where} is frozen ({hold.source.name}): {hold.reason}"
        case HoldKind.WINDOW:
            return f"{where} is outside of its windows ({hold.source.name}): {hold.reason}"
        case HoldKind.CONTRADICTION | HoldKind.REVOCATION | HoldKind.NOT_BEFORE:
            return _with_reason(f"{where} is held{_until(hold.until)}", hold)
        case _:
            assert_never(kind)


def scope_words(scope: HoldScope) -> str:
    """Return the scope as a reason names it."""
    match scope:
        case FleetScope():
            return "the fleet"
        case ChannelScope():
            return f"channel {scope.channel}"
        case RolloutScope():
            return f"rollout {scope.rollout_id}"
        case WaveScope():
            return f"wave {scope.wave} of {scope.rollout_id}"
        case HostScope():
            return f"host {scope.hostname}"
        case GroupScope():
            # Without the hosts: all of them share a reason, and a lane.
            return f"this host of channel {scope.channel}"
        case _:
            assert_never(scope)


def _with_reason(words: str, hold: Hold) -> str:
    is_by_name = hold.source.kind is HoldKind.OPERATOR and hold.source.name
    why = f"{hold.source.name}: {hold.reason}" if is_by_name else hold.reason
    return f"{words}: {why}" if why else words


def _until(until: datetime | None) -> str:
    return "" if until is None else f" until {until.astimezone(UTC):%Y-%m-%d %H:%M}Z"
