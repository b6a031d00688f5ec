"""Fixtures for the engines."""

from pathlib import Path

import pytest
from tests.engines.small_fleet import SmallFleet


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    """Three hosts in two waves; a canary, and the rest."""
    return SmallFleet(tmp_path)
