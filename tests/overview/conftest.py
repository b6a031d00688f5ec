"""A control plane on a directory of its own."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.scratch import scratch_directory


@pytest.fixture
def control_plane() -> Iterator[ScriptedControlPlane]:
    """Nothing published yet; three hosts in two waves, a canary and the rest."""
    with scratch_directory() as directory, closing(ScriptedControlPlane(directory)) as fleet:
        yield fleet
