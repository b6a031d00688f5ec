"""Fixtures for the engines."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.engines.small_fleet import SmallFleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SmallFleet]:
    """Three hosts in two waves; a canary, and the rest."""
    with closing(SmallFleet(tmp_path)) as fleet:
        yield fleet
