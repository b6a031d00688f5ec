"""The page about testing with Hypothesis: its examples run."""

import re
import unittest
from pathlib import Path

import pytest

from nixfleet_testing.plugin import register_types

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "testing-with-hypothesis.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_page_passes(example: str) -> None:
    """Each example is complete: run by itself, its tests pass."""
    register_types()  # what the entry point does where it is installed
    names: dict[str, object] = {"__name__": "example"}
    exec(example, names)
    tests = [value for name, value in names.items() if name.lower().startswith("test")]
    assert tests
    for test in tests:
        if isinstance(test, type) and issubclass(test, unittest.TestCase):
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(test).run(result)
            assert result.wasSuccessful(), result
        else:
            assert callable(test)
            test()
