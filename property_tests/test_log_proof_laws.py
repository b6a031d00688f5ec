"""What holds for the Merkle tree of every log, against the definition of RFC 9162 written out."""

from hashlib import sha256

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nixfleet_proto.audit.merkle import (
    ProofFails,
    consistency_path,
    inclusion_path,
    require_continued,
    require_included,
    root_of,
)

LOGS = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


def _defined(rows: list[bytes]) -> bytes:
    """Return the root by the recursive definition: RFC 9162, section 2.1.1."""
    if not rows:
        return sha256(b"").digest()
    if len(rows) == 1:
        return sha256(b"\x00" + rows[0]).digest()
    split = 1
    while split * 2 < len(rows):
        split *= 2
    return sha256(b"\x01" + _defined(rows[:split]) + _defined(rows[split:])).digest()


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_the_root_is_that_of_the_recursive_definition(rows: list[bytes]) -> None:
    """The root of a log of any length, none included."""
    assert root_of(rows) == _defined(rows)


@given(LOGS, st.data())
def test_every_row_is_proved_to_be_at_its_place(rows: list[bytes], data: st.DataObject) -> None:
    """The path of a row leads to the root."""
    index = data.draw(st.integers(0, len(rows) - 1))

    require_included(rows[index], index, len(rows), inclusion_path(rows, index), _defined(rows))


@given(LOGS, st.data())
def test_a_row_that_is_not_there_is_not_proved(rows: list[bytes], data: st.DataObject) -> None:
    """No path of the log shows another row at a place, or the row at another place."""
    index = data.draw(st.integers(0, len(rows) - 1))
    place = data.draw(st.integers(0, len(rows) - 1))
    row = data.draw(st.binary(min_size=32, max_size=32) | st.sampled_from(rows))
    assume(row != rows[place])

    with pytest.raises(ProofFails):
        require_included(row, place, len(rows), inclusion_path(rows, index), _defined(rows))


@given(LOGS, st.data())
def test_every_beginning_of_a_log_is_proved_to_be_one(
    rows: list[bytes], data: st.DataObject
) -> None:
    """A checkpoint of some time ago is continued by the log."""
    size = data.draw(st.integers(1, len(rows)))
    path = consistency_path(rows, size)

    require_continued(size, _defined(rows[:size]), len(rows), _defined(rows), path)


@given(LOGS, st.data())
def test_a_log_that_was_rewritten_does_not_continue_its_checkpoint(
    rows: list[bytes], data: st.DataObject
) -> None:
    """After a change of any row before the checkpoint no path of the new log holds."""
    size = data.draw(st.integers(1, len(rows)))
    changed = data.draw(st.integers(0, size - 1))
    other = data.draw(st.binary(min_size=32, max_size=32))
    assume(other != rows[changed])
    rewritten = [*rows[:changed], other, *rows[changed + 1 :]]

    with pytest.raises(ProofFails):
        require_continued(
            size,
            _defined(rows[:size]),
            len(rows),
            _defined(rewritten),
            consistency_path(rewritten, size),
        )


@given(LOGS, st.data())
def test_a_proof_with_a_hash_changed_left_out_or_added_does_not_hold(
    rows: list[bytes], data: st.DataObject
) -> None:
    """Both kinds of proof."""
    index = data.draw(st.integers(0, len(rows) - 1))
    size = data.draw(st.integers(1, len(rows)))
    root = _defined(rows)
    included = data.draw(_spoilt(inclusion_path(rows, index)))
    continued = data.draw(_spoilt(consistency_path(rows, size)))

    with pytest.raises(ProofFails):
        require_included(rows[index], index, len(rows), included, root)
    with pytest.raises(ProofFails):
        require_continued(size, _defined(rows[:size]), len(rows), root, continued)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_place_outside_the_log_has_no_path(index: int) -> None:
    """Neither a row nor a beginning."""
    rows = [bytes(32)] * 3

    with pytest.raises(IndexError):
        inclusion_path(rows, index)
    with pytest.raises(IndexError):
        consistency_path(rows, 4 if index > 0 else 0)
    with pytest.raises(ProofFails):
        require_included(rows[0], index, 3, (), root_of(rows))
    with pytest.raises(ProofFails):
        require_continued(4 if index > 0 else 0, root_of(rows), 3, root_of(rows), ())


def _spoilt(path: tuple[bytes, ...]) -> st.SearchStrategy[tuple[bytes, ...]]:
    added = st.binary(min_size=32, max_size=32).map(lambda one: (*path, one))
    if not path:
        return added
    places = st.integers(0, len(path) - 1)
    return (
        added
        | places.map(lambda at: path[:at] + path[at + 1 :])
        | places.map(lambda at: (*path[:at], sha256(path[at]).digest(), *path[at + 1 :]))
    )
