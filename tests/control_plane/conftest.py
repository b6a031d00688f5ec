"""Fixtures for the control plane."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.scratch import scratch_directory
from tests.engines.story import Story


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory on which commits are quick."""
    with scratch_directory() as directory:
        yield directory


@pytest.fixture
def control_plane(scratch: Path) -> Iterator[ScriptedControlPlane]:
    """Nothing published yet; three hosts in two waves, a canary and the rest."""
    with closing(ScriptedControlPlane(scratch)) as control_plane:
        yield control_plane


@pytest.fixture
def story(scratch: Path) -> Iterator[Story]:
    """A life yet to be lived."""
    with closing(Story.within(scratch)) as story:
        yield story
