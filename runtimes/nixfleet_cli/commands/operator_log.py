"""`nixfleet operator log`: the log of a control plane in words, over the network, also as it grows."""

from collections.abc import Callable, Iterator
from time import sleep
from typing import Final
from urllib.parse import urlencode

import click

from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.output import Row, note, shown_time
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.listings import (
    FEED_PAGE,
    PAGE_LENGTH_MAX,
    FeedPage,
    ListedRow,
)

WAIT_SECONDS: Final = 20
PAUSE_SECONDS: Final = 0.5
LAST_DEFAULT: Final = 50
SHAPE: Final = (
    "one object a line, with seq, ts, kind, payload, host, signature, rolloutId, actor, text, type "
    "and severity"
)


@command(name="log")
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on as the log grows, until ^C.")
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(min=0),
    default=LAST_DEFAULT,
    show_default=True,
    help="Begin so many rows before the end.",
)
@click.option(
    "--after",
    metavar="SEQ",
    type=click.IntRange(min=0),
    help="Instead of --last: begin after row SEQ.",
)
@click.option("--host", metavar="NAME", help="Only lines about this host.")
@click.option("--rollout", metavar="ID", help="Only lines about this rollout.")
@click.option("--kind", metavar="KIND", help="Only lines of this kind, such as rollout_event.")
@click.option("--shard", metavar="NAME", help="The log of this shard, in place of main's.")
@asks(SHAPE)
def show_log(
    session: Session,
    follows: bool,
    last: int,
    after: int | None,
    host: str | None,
    rollout: str | None,
    kind: str | None,
    shard: str | None,
) -> None:
    """Print the log of the control plane in words.

    A line has the row's number, its time, the rollout, who did it and what happened.
    """
    wanted = {"host": host, "rollout": rollout, "kind": kind, "shard": shard}
    filters = {name: value for name, value in wanted.items() if value is not None}
    of_shard = {} if shard is None else {"shard": shard}
    begin = max(_page(session, of_shard, 0, limit=1).head - last, 0) if after is None else after
    try:
        for page in pages(session, filters, begin, follows=follows):
            values = map(FEED_PAGE.spelling.converter.unstructure, page.events)
            session.output.rows(values, map(cells, page.events), HEADER)
    except KeyboardInterrupt:
        note("")


HEADER: Final[Row] = ("row", "at", "rollout", "who", "what")


def cells(line: ListedRow) -> Row:
    """Return a line of the log as the cells of a table."""
    return (
        str(line.seq),
        shown_time(line.ts),
        line.rollout_id or "",
        line.actor or line.host or "",
        line.text or line.kind,
    )


def pages(
    session: Session,
    filters: dict[str, str],
    after: int,
    *,
    follows: bool,
    pause: Callable[[float], None] = sleep,
) -> Iterator[FeedPage]:
    """Yield the pages that have lines, from row `after` on; without end if it follows.

    pause: waits so many seconds. A page for which no row was read may come at once, as from a control plane that ends.
    """
    while True:
        page = _page(session, filters, after, wait=WAIT_SECONDS if follows else 0)
        if page.events:
            yield page
        if follows and page.next <= after:
            pause(PAUSE_SECONDS)
        if not follows and page.next >= page.head:
            return
        after = page.next


def _page(
    session: Session,
    filters: dict[str, str],
    after: int,
    *,
    limit: int = PAGE_LENGTH_MAX,
    wait: int = 0,
) -> FeedPage:
    query = urlencode({**filters, "after": after, "limit": limit, "wait": wait})
    return session.read(f"{paths.LOG}?{query}", FEED_PAGE)
