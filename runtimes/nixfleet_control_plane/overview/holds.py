"""Holds in words: what each is, and what ends it. Pure.

Source: docs/spec/holds.md, What is shown.
"""

from typing import assert_never

from nixfleet_runtime.http.listings import ListedHold
from nixfleet_state_machine.planner.holds.blocks import words_of
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind


def what_ends(hold: Hold) -> str:
    """Return what ends a hold before its time, a sentence."""
    match hold.source.kind:
        case HoldKind.OPERATOR if hold.source.name:
            return f"Release it once the reason is gone; {hold.source.name} holds it."
        case HoldKind.OPERATOR:
            return "Resume it once the reason is gone."
        case HoldKind.CONTRADICTION:
            return "Find out which machine is the right one, and resume the host."
        case HoldKind.REVOCATION:
            return "Enroll the host anew, with a new key."
        case HoldKind.DEVICE:
            return "It ends when the device says so, or when its end has passed."
        case HoldKind.FREEZE | HoldKind.WINDOW:
            return "The calendar ends it; another release can, if the calendar is wrong."
        case HoldKind.NOT_BEFORE:
            return "The time of the wave is signed; another release can name another one."
        case _:
            assert_never(hold.source.kind)


def holder_of(hold: Hold) -> str | None:
    """Return the operator whose hold it is; `None`: it is of none, or of one whose name is not known."""
    return hold.source.name or None if hold.source.kind is HoldKind.OPERATOR else None


def listed_hold(hold: Hold) -> ListedHold:
    """Return a hold as it is listed."""
    return ListedHold(
        str(hold.scope),
        str(hold.source),
        hold.reason,
        hold.since,
        hold.until,
        f"{words_of(hold)}.",
        what_ends(hold),
        holder_of(hold),
        hold.source.kind in (HoldKind.OPERATOR, HoldKind.CONTRADICTION),
    )
