"""A control plane that lived for half a year: a release every week, of which all but the last are pruned."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout, Publisher
from tests.engines.scripted_host import ScriptedHost

BEGIN = datetime(2025, 1, 6, 9, tzinfo=UTC)
END = datetime(2025, 7, 9, 9, tzinfo=UTC)
HOSTS = ("web-01", "web-02")
MONTHS = ("2025-01", "2025-02", "2025-03", "2025-04", "2025-05")
"""Those that nothing live needs: the last release is of June."""


def live_half_a_year(directory: Path, ci: Publisher | None = None) -> Path:
    """Live it, and return the path of the database, which is closed."""
    control_plane = ScriptedControlPlane(directory, Layout(waves=(HOSTS,), edges=()), ci)
    control_plane.now = BEGIN
    with closing(control_plane):
        for week in range(26):
            rollout_id = control_plane.publish(f"r{week}")
            for hostname in HOSTS:
                ScriptedHost(control_plane, rollout_id, hostname).finish()
            control_plane.wait(minutes=7 * 24 * 60)
            control_plane.tick()
            control_plane.flush()
        assert control_plane.now < END
    return control_plane.database
