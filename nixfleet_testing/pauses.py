"""Pauses by the text form of their scope, for tests of the planner: an operator's holds without an end."""

from typing import Final

from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.scope import parse_scope
from nixfleet_state_machine.planner.index.fleet_view import FleetView

SOMEBODY: Final = HoldSource(HoldKind.OPERATOR)


def pause_of(scope: str, why: str = "") -> Hold:
    """Return the hold of an operator without a name. why: by whom, and the reason."""
    return Hold(parse_scope(scope), SOMEBODY, why)


def pause(view: FleetView, scope: str, why: str = "") -> None:
    """Hold `scope` in the view, as an operator without a name."""
    view.hold(pause_of(scope, why))


def resume(view: FleetView, scope: str) -> None:
    """Lift the hold that `pause` began."""
    view.release(parse_scope(scope), SOMEBODY)


def is_paused(view: FleetView, scope: str) -> bool:
    """Return whether `pause` holds `scope`."""
    return view.holds.get(parse_scope(scope), SOMEBODY) is not None
