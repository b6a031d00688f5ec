"""The tools of the contracts: a message that names what differs, and async tests that run by themselves."""

from typing import ClassVar

import anyio
import anyio.lowlevel
import pytest
from attrs import frozen

from nixfleet_testing.contracts.difference import SHOWN_MAX, difference
from nixfleet_testing.contracts.event_loop import ASYNCIO, ends_within, in_loop_of


class OnAsyncio:
    """As a contract, which names its event loop."""

    backend: ClassVar[str] = ASYNCIO


@frozen
class Point:
    x: int
    y: int


@pytest.mark.parametrize(
    ("expected", "found", "message"),
    [
        (1, 2, "expected 1, found 2"),
        (Point(1, 2), Point(1, 3), "y: expected 2, found 3"),
        (Point(1, 2), None, "expected Point(x=1, y=2), found None"),
        ((Point(1, 2),), (Point(0, 2),), "[0].x: expected 1, found 0"),
        ({"a": [1, 2]}, {"a": [1]}, "[a][1]: missing 2"),
        ({"a": 1}, {"b": 1}, "[a]: missing 1; [b]: not expected 1"),
        (frozenset({1, 2}), frozenset({2, 3}), "[1]: missing 1; [3]: not expected 3"),
        ("ab", "ac", "expected 'ab', found 'ac'"),
        ([1], [1], "no difference"),
    ],
)
def test_a_difference_is_told_by_the_place_where_it_is(
    expected: object, found: object, message: str
) -> None:
    """Fields, keys, indexes and elements that differ are named; those that do not are left out."""
    assert difference(expected, found) == message


def test_many_differences_are_told_by_the_first_few() -> None:
    """A message stays short however much differs."""
    told = difference(list(range(100)), list(range(100, 200)))

    assert told.count("expected") == SHOWN_MAX
    assert told.endswith("; …")


def test_an_assertion_that_fails_in_a_task_group_is_raised_as_it_is() -> None:
    """The message is not hidden in an exception group, nor behind another error of the same group."""

    async def fails() -> None:
        await anyio.lowlevel.checkpoint()
        raise AssertionError("the message")

    async def breaks() -> None:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("something else")

    @in_loop_of(OnAsyncio())
    async def test() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(breaks)
            tasks.start_soon(fails)

    with pytest.raises(AssertionError, match=r"^the message$"):
        test()


def test_work_that_does_not_end_in_time_is_cancelled() -> None:
    """`ends_within` says whether the work ended, and leaves nothing running."""

    @in_loop_of(OnAsyncio())
    async def test() -> None:
        assert await ends_within(10, anyio.lowlevel.checkpoint)
        assert not await ends_within(0.01, anyio.sleep_forever)

    test()
