"""A planted bug that was caught, in the words that it should be, is not looked for any longer."""

from collections.abc import Generator

import pytest

_caught: set[type] = set()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Spend no time on a class that was caught already."""
    if isinstance(item, pytest.Function) and item.cls in _caught:
        pytest.skip("caught already")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a class was caught when one of its tests failed with the expected words."""
    report = yield
    kind = item.cls if isinstance(item, pytest.Function) else None
    if kind is not None and call.excinfo is not None and kind.says in str(call.excinfo.value):
        _caught.add(kind)
    return report
