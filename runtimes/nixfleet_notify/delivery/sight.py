"""What a notifier knows of the log: how far it goes, which log it is, and whether its control plane answers. Pure.

A control plane that lost its database writes another log with the same numbers. A row that was seen before tells them
apart: its anchor.
Source: docs/spec/notifications.md, A silent control plane; A lost log.
"""

from datetime import datetime, timedelta

from attrs import evolve, frozen

from nixfleet_notify.delivery.needs import OpenNeed
from nixfleet_runtime.http.listings import FeedPage


@frozen
class Anchor:
    """A row that was seen: its number, and when the control plane wrote it."""

    seq: int
    ts: datetime


@frozen
class Outage:
    """A time in which the control plane does not answer. since: its last answer, or our start. problem: the last one.

    ended_at: when it answered again.
    """

    since: datetime
    problem: str
    ended_at: datetime | None = None


@frozen
class Sight:
    """What is known of the log. Durable. log: 1, and one more after each lost database. head: its last row.

    head, anchor: `None`: nothing was read yet. outage: the last one that was long enough to be told. needs: that are
    open.
    """

    log: int = 1
    head: int | None = None
    anchor: Anchor | None = None
    heard_at: datetime | None = None
    outage: Outage | None = None
    needs: tuple[OpenNeed, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether the control plane has been silent for long enough to tell."""
        return self.outage is not None and self.outage.ended_at is None


def seen(sight: Sight, page: FeedPage, now: datetime) -> Sight:
    """Return what is known after a page of the log that is known."""
    last = page.events[-1] if page.events else None
    return evolve(
        sight,
        head=max(page.head, sight.head or 0),
        anchor=sight.anchor if last is None else Anchor(last.seq, last.ts),
        heard_at=now,
        outage=_ended(sight.outage, now),
    )


def lost(sight: Sight, now: datetime) -> Sight:
    """Return what is known once the log turned out to be another one: nothing of it yet."""
    return Sight(sight.log + 1, 0, None, now, _ended(sight.outage, now), sight.needs)


def is_other_log(sight: Sight, page: FeedPage) -> bool:
    """Return whether a page shows that the anchor's row is another one now. page: asked for after the row before it."""
    anchor = sight.anchor
    if anchor is None:
        return False
    if page.begins is not None and page.begins > anchor.seq:
        return False  # It was dropped: nothing can be said.
    row = next((line for line in page.events if line.seq == anchor.seq), None)
    return row is None or row.ts != anchor.ts


def unheard(
    sight: Sight, problem: str, started_at: datetime, now: datetime, silent_after: timedelta
) -> Sight:
    """Return what is known after a question without an answer. started_at: our start."""
    if sight.is_silent:
        assert sight.outage is not None
        return evolve(sight, outage=evolve(sight.outage, problem=problem))
    # Silence before our start is none: nobody asked.
    since = max(started_at, sight.heard_at or started_at)
    if now - since < silent_after:
        return sight
    return evolve(sight, outage=Outage(since, problem))


def _ended(outage: Outage | None, now: datetime) -> Outage | None:
    if outage is None or outage.ended_at is not None:
        return outage
    return evolve(outage, ended_at=now)


def set_back(sight: Sight, by: timedelta) -> Sight:
    """Return what is known after our clock was set back: the silence so far stays as long as it was."""
    heard_at = None if sight.heard_at is None else sight.heard_at - by
    return evolve(sight, heard_at=heard_at)
