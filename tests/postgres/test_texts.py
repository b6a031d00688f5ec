"""What PostgreSQL cannot store in a text is stored all the same."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_control_plane.messages.writes import RemoveHold
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.target import Target
from nixfleet_postgres.texts import restored, storable
from nixfleet_testing.contracts.store_cases import LAST, ROWS, hold, row

TEXTS = st.text(st.sampled_from(["\0", "\ufdd0", "0", "1", "a"]))


@given(TEXTS, TEXTS)
def test_a_text_with_nul_is_stored_without_and_read_as_it_was(text: str, other: str) -> None:
    """Different texts stay different, so keys do too."""
    assert "\0" not in storable(text)
    assert restored(storable(text)) == text
    assert (storable(text) == storable(other)) is (text == other)


@pytest.mark.anyio
async def test_a_view_and_a_row_with_nul_are_committed_and_read_as_they_were(
    target: Target,
) -> None:
    """A reason that an operator gave, and a rollout that a host named."""
    store = await open_store(target)
    said = hold(LAST + 1)
    said = evolve(said, hold=evolve(said.hold, reason="a\0b\ufdd0"))
    await store.commit(ROWS)
    await store.commit([row(LAST + 1)._replace(rollout_id="stable@r\0"), said])
    found = await store.load()
    assert [each.reason for each in found.holds] == ["a\0b\ufdd0"]
    await store.commit([RemoveHold(*said.hold.key)])
    assert (await store.load()).holds == ()
    await store.close()
