"""Tables of the guides are complete: every gate, every refusal of an enrollment, every metric that is named exists."""

import re
from pathlib import Path

from attrs import fields

from nixfleet_notify.delivery.notices import NOTICE_TYPES
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_proto.steering.guards import Check
from nixfleet_release.written.declaration import GuardsDeclaration
from nixfleet_runtime.http.line_types import LineType
from nixfleet_state_machine.planner.action import Gate
from tests.docs.pages import DOCS

ROOT = Path(__file__).parents[2]
DECLARING = (DOCS / "how-to" / "declaring-a-fleet.md").read_text("utf-8")
WATCHING = (DOCS / "how-to" / "watching-a-fleet.md").read_text("utf-8")
NOTIFICATIONS = (DOCS / "spec" / "notifications.md").read_text("utf-8")
RUNNING = (DOCS / "how-to" / "running-a-control-plane.md").read_text("utf-8")
CONTROL_PLANE = ROOT / "runtimes" / "nixfleet_control_plane"
METRICS_FROM = [
    CONTROL_PLANE,
    ROOT / "runtimes" / "nixfleet_runtime",
    ROOT / "nixfleet_state_machine",
]


def test_every_gate_is_explained() -> None:
    """The table of gates has exactly the gates of the planner, in the order in which they are asked."""
    (table,) = re.findall(r"^\| gate \|.*?\n\n", WATCHING, re.MULTILINE | re.DOTALL)

    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == [gate.value for gate in Gate]


def test_every_type_of_a_log_line_is_specified_with_its_severity() -> None:
    """The table has exactly the types that the control plane gives, in their order; then come those of notices."""
    specified = re.findall(r"^\| `([a-z.-]+)` \| ([a-z]+) \| .+ \|$", NOTIFICATIONS, re.MULTILINE)

    lines = [(str(it), str(it.severity)) for it in LineType]
    assert specified[: len(lines)] == lines
    assert [name for name, _ in specified[len(lines) :]] == list(NOTICE_TYPES)


def test_every_refusal_of_an_enrollment_has_a_remedy() -> None:
    """The table has exactly the problem types, each with its status, that the control plane answers with."""
    routes = (CONTROL_PLANE / "http" / "enrollment_problems.py").read_text("utf-8")
    answered = {
        (name, status) for name, status in re.findall(r'name, status = "([a-z-]+)", (\d+)', routes)
    }
    shown = {
        (name, status)
        for status, name in re.findall(r"^\| (\d+) \| `([a-z-]+)` \|", RUNNING, re.MULTILINE)
    }

    assert len(answered) >= 7
    assert shown == answered


def test_every_metric_that_the_page_names_exists() -> None:
    """A metric of the table is registered, or emitted by a reducer, under that name."""
    named = set(re.findall(r"^\| `(nixfleet_[a-z_]+)", RUNNING, re.MULTILINE))
    sources = "".join(
        source.read_text("utf-8") for folder in METRICS_FROM for source in folder.rglob("*.py")
    )

    assert len(named) >= 9
    assert {name for name in named if f'"{name}"' not in sources} == set()


def _keys_below(heading: str) -> list[list[str]]:
    """The first column of each table of a section."""
    section = DECLARING.split(f"{heading}\n", 1)[1]
    section = re.split(r"^##+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    tables = re.findall(r"^\| key \|.*?\n\n", section, re.MULTILINE | re.DOTALL)
    return [re.findall(r"^\| `([a-z_.]+)` \|", table, re.MULTILINE) for table in tables]


def test_every_key_of_a_calendar_entry_is_in_the_guide() -> None:
    """In the order of the declaration, so that none is forgotten."""
    (keys,) = _keys_below("## Windows and freezes")
    assert set(keys) == {field.name for field in fields(CalendarEntry)}


def test_every_key_of_a_guard_is_in_the_guide() -> None:
    """Those of a wave, and those of a check."""
    of_wave, of_check = _keys_below("### What a wave waits for")
    assert {key.partition(".")[0] for key in of_wave} == {
        field.name for field in fields(GuardsDeclaration)
    }
    assert set(of_check) == {field.name for field in fields(Check)}
