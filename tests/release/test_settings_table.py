"""Every setting is in the table of where it acts, so that none does nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from nixfleet_proto.fleet import DisruptionBudget, Edge, FleetChannel, FleetHost, Wave
from nixfleet_proto.health_check import (
    ControlOverride,
    EvidenceProbe,
    ExecProbe,
    HomeProbe,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
)
from nixfleet_proto.policy import Deadline, Deadlines, PolicyWave, Retry, RolloutPolicy
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_release.written.declaration import (
    BudgetDeclaration,
    CalendarDeclaration,
    ComplianceDeclaration,
    FrameworkDeclaration,
    Pin,
    PolicyDeclaration,
    WaveDeclaration,
)

PAGE = Path(__file__).parents[2] / "docs" / "spec" / "declarations.md"
ROW = re.compile(r"^\| ([a-z ]+) \| `([a-z_]+)` \| (.+) \|$", re.MULTILINE)
SETTINGS: dict[str, tuple[type, ...]] = {
    "host": (FleetHost,),
    "channel": (FleetChannel,),
    "policy": (PolicyDeclaration, RolloutPolicy),
    "wave": (WaveDeclaration, PolicyWave, Wave),
    "deadlines": (Deadlines,),
    "deadline": (Deadline,),
    "retry": (Retry,),
    "budget": (BudgetDeclaration, DisruptionBudget),
    "calendar": (CalendarDeclaration, CalendarEntry),
    "edge": (Edge,),
    "pin": (Pin,),
    "framework": (FrameworkDeclaration,),
    "compliance": (ComplianceDeclaration,),
    "override": (ControlOverride,),
    "http": (HttpProbe,),
    "tcp": (TcpProbe,),
    "exec": (ExecProbe,),
    "systemd": (SystemdProbe,),
    "home": (HomeProbe,),
    "evidence": (EvidenceProbe,),
}
PROBES = ("http", "tcp", "exec", "systemd", "home", "evidence")
OF_ANY_PROBE = ("interval_seconds", "mode", "run_once", "healthy")
# Fields that are written under another name, and the names that a wave was resolved to.
WRITTEN = {
    ("channel", "rollout_policy"): "policy",
    ("channel", "freshness_window"): "freshness_window_minutes",
    ("wave", "order"): "sort",
    ("wave", "hosts"): "selector",
}


def settings() -> Iterator[tuple[str, str]]:
    """Yield every field of every class that a fleet or a policy is declared or resolved with."""
    for of, classes in SETTINGS.items():
        for cls in classes:
            for field in attrs.fields(cls):
                key = WRITTEN.get((of, field.name), field.name)
                yield ("any probe" if of in PROBES and key in OF_ANY_PROBE else of), key


def rows() -> dict[tuple[str, str], str]:
    table = PAGE.read_text().partition("## Where each setting acts")[2].partition("\n## ")[0]
    return {(of, key): acts for of, key, acts in ROW.findall(table)}


@pytest.mark.parametrize("setting", sorted(set(settings())), ids=" ".join)
def test_a_setting_is_in_the_table_of_where_it_acts(setting: tuple[str, str]) -> None:
    """A field that is added has a row that names the side on which it acts, or that it is refused."""
    acts = rows()[setting]

    sides = (
        "agent",
        "closure",
        "control plane",
        "manifest",
        "refused",
        "release",
        "shown",
        "`waves`",
    )
    assert acts.startswith(sides)


def test_the_table_has_no_setting_that_is_gone() -> None:
    """Each row is a field of a class that declares something."""
    assert rows().keys() == set(settings())
