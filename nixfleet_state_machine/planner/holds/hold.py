"""A hold: nothing begins in its scope. Data.

A hold stops beginnings only: what is queued and not acknowledged is withdrawn, nothing more is dispatched, and a host
that was ordered to act acts on, its rollback included. Holds are keyed by scope and source: several coexist, and
lifting one never lifts another.
Source: docs/spec/holds.md.
"""

from datetime import datetime
from typing import NamedTuple

from attrs import evolve, frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_state_machine.planner.holds.scope import HoldScope


class HoldKind(WordEnum):
    """What kind of source a hold has, in the order in which holds of one scope are named."""

    OPERATOR = "operator"
    CONTRADICTION = "contradiction"
    REVOCATION = "revocation"
    DEVICE = "device"
    FREEZE = "freeze"
    WINDOW = "window"
    NOT_BEFORE = "not-before"

    @property
    def is_derived(self) -> bool:
        """Whether such a hold follows from artefacts in force, and is in no row of its own."""
        return self is HoldKind.REVOCATION or self is HoldKind.NOT_BEFORE

    @property
    def is_for_people(self) -> bool:
        """Whether such a hold, if it has no end, ends by nothing but what a person does."""
        return (
            self is HoldKind.OPERATOR
            or self is HoldKind.CONTRADICTION
            or self is HoldKind.REVOCATION
        )

    @property
    def is_by_calendar(self) -> bool:
        """Whether a calendar begins and ends such a hold."""
        return self is HoldKind.FREEZE or self is HoldKind.WINDOW


@frozen
@checked
class HoldSource:
    """Who or what holds. name: of the operator, the freeze or the windows; empty where there is only one."""

    kind: HoldKind
    name: str = ""

    def __str__(self) -> str:
        """The text form: `operator:ada`, `device`; `parse_source` reads it."""
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)

    @property
    def order(self) -> tuple[int, str]:
        """By kind, then by name."""
        return _ORDER[self.kind], self.name


_ORDER = {kind: place for place, kind in enumerate(HoldKind)}


def parse_source(text: str) -> HoldSource:
    """Return the source whose text form is `text`. Raises: ValueError, for a kind that there is not."""
    kind, _, name = text.partition(":")
    return HoldSource(HoldKind(kind), name)


class HoldKey(NamedTuple):
    """What is unique among holds."""

    scope: HoldScope
    source: HoldSource


@frozen
@checked
class Hold:
    """Nothing begins in `scope`.

    reason: for people. until: when it ends by itself; `None`: when somebody lifts it. since: when it began, if known.
    """

    scope: HoldScope
    source: HoldSource
    reason: str = ""
    until: datetime | None = None
    since: datetime | None = None

    @property
    def key(self) -> HoldKey:
        """The scope and the source: a hold replaces the one with its key."""
        return HoldKey(self.scope, self.source)

    def begun(self, at: datetime) -> "Hold":
        """Return the hold as it begins at `at`."""
        return evolve(self, since=at)


@frozen
@checked
class HoldBegan:
    """A hold begins, or goes on with another reason or end, in place of the one with its key."""

    hold: Hold


@frozen
@checked
class HoldEnded:
    """A hold ends by itself: its time is over, or nothing in force gives a reason for it any more."""

    scope: HoldScope
    source: HoldSource


HoldEvent = HoldBegan | HoldEnded
"""What happens to holds by the passing of time. In the log, so that gates look at state alone."""
