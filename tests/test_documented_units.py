"""The systemd units in the documentation, read as systemd reads them."""

import configparser
import re
from pathlib import Path, PurePosixPath

DOCS = Path(__file__).parents[1] / "docs"
UNIT = re.compile(r"^```ini\n(\[(?:Unit|Service)\].*?)^```", re.MULTILINE | re.DOTALL)


def documented_units() -> list[tuple[str, configparser.SectionProxy]]:
    """Return the `[Service]` section of each unit in the documentation, with its page."""
    units = []
    for page in sorted(DOCS.rglob("*.md")):
        for text in UNIT.findall(page.read_text(encoding="utf-8")):
            unit = configparser.ConfigParser(strict=False, interpolation=None)
            unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
            unit.read_string(text)
            if "StateDirectory" in unit["Service"]:
                units.append((page.name, unit["Service"]))
    return units


def test_a_state_directory_of_one_unit_never_contains_that_of_another() -> None:
    """systemd gives a state directory and all below it to the unit's user: nested, one reads the other's keys."""
    units = documented_units()
    directories = [PurePosixPath(service["StateDirectory"]) for _, service in units]

    assert len(directories) >= 2
    for inner in directories:
        assert not [
            outer for outer in directories if outer is not inner and inner.is_relative_to(outer)
        ]


def test_a_state_directory_is_closed_to_other_users() -> None:
    """Keys and databases lie in it, so its mode is 0700 and not systemd's default 0755."""
    assert {service.get("StateDirectoryMode") for _, service in documented_units()} == {"0700"}
