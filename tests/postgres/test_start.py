"""What a start copies of the database: it is in memory, so not what a log of years has."""

import pytest

from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.log_entry import ArtefactTaken, LogRow
from nixfleet_control_plane.messages.writes import SetRecordsThrough
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.target import Target
from tests.engines.releases import START

pytestmark = pytest.mark.anyio


def _release(seq: int) -> LogRow:
    """Return a row with a content of its own."""
    hosts = f'"{seq}{"x" * 300}"'
    return row_of(seq, START, ArtefactTaken("fleet", None, f'{{"hosts":{hosts}}}', "", "ci"))


async def test_a_start_copies_no_content_of_a_release_that_it_does_not_read(target: Target) -> None:
    """Those of the tail and of what is in force are there; those of the releases before stay in the database."""
    store = await open_store(target)
    await store.commit([*map(_release, (1, 2, 3)), SetRecordsThrough(2)])
    (last,) = (await store.load()).tail
    assert last.entry == ArtefactTaken("fleet", None, f'{{"hosts":"3{"x" * 300}"}}', "", "ci")
    copy = store._copy
    assert copy is not None
    (text,) = copy.execute("SELECT text FROM contents").fetchall()
    assert text == (f'"3{"x" * 300}"',)
    await store.close()
