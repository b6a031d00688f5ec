"""The units that ship, read by systemd itself: they are valid, and each may do no more than is stated here."""

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from nixfleet_units.units import Credential, UnitOptions, UnusableInUnit, unit_kinds, unit_of
from tests.cli.conftest import Invoke, nixfleet

__all__ = ["nixfleet"]
# What `systemd-analyze security` gives at most, from 0 to 10. It names what is left: the network, a root directory, and
# for the agent its user.
EXPOSURE_MAX = {"control-plane": 1.2, "agent": 2.0, "notify": 1.2}
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here"
)


def written(directory: Path, kind: str, options: UnitOptions) -> Path:
    """Write the unit of a service into `directory`; return the file."""
    unit = unit_of(kind, options)
    file = directory / unit.name
    file.write_text(unit.text, encoding="utf-8")
    return file


def analyzed(*arguments: object) -> str:
    """Return what systemd-analyze says."""
    ended = subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return ended.stdout + ended.stderr


@needs_systemd
@pytest.mark.parametrize("kind", unit_kinds())
def test_a_unit_is_valid_for_systemd(kind: str, tmp_path: Path) -> None:
    """Every option is known, and has a value that it takes."""
    program = tmp_path / "nixfleet"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    credentials = (Credential("tls.key", "/etc/nixfleet/tls.key"),)
    file = written(tmp_path, kind, UnitOptions(str(program), "/etc/other.toml", credentials))

    # It also reads the units that are installed here; only lines about this one count.
    said = analyzed("verify", "--man=no", "--recursive-errors=no", file)

    assert [line for line in said.splitlines() if file.name in line] == []


@needs_systemd
@pytest.mark.parametrize("kind", unit_kinds())
def test_a_service_is_exposed_no_more_than_is_stated(kind: str, tmp_path: Path) -> None:
    """A line that is lost from the unit raises the number."""
    file = written(tmp_path, kind, UnitOptions())

    said = analyzed("security", "--offline=true", "--no-pager", file)

    (exposure,) = re.findall(r"Overall exposure level for \S+: (\S+)", said)
    assert float(exposure) <= EXPOSURE_MAX[kind]


def service_of(kind: str) -> dict[str, str]:
    """Return the options of a service; of one that is repeated, the last."""
    text = unit_of(kind).text.partition("[Service]\n")[2].partition("\n\n")[0]
    return dict(line.split("=", 1) for line in text.splitlines())


def test_a_state_directory_of_one_service_never_contains_that_of_another() -> None:
    """systemd gives a state directory and all below it to the unit's user: nested, one reads the other's keys."""
    directories = [PurePosixPath(service_of(kind)["StateDirectory"]) for kind in unit_kinds()]

    assert len(directories) == 3
    for inner in directories:
        assert not [it for it in directories if it is not inner and inner.is_relative_to(it)]


def test_a_state_directory_is_closed_to_other_users() -> None:
    """Keys and databases lie in it, so its mode is 0700 and not systemd's default 0755."""
    assert {service_of(kind)["StateDirectoryMode"] for kind in unit_kinds()} == {"0700"}


def test_a_service_that_is_not_confined_keeps_its_files_to_itself() -> None:
    """It starts as the other does and is watched like it; nothing else is left of the sandbox."""
    text = unit_of("agent", UnitOptions(is_confined=False)).text
    kept = set(unit_of("agent").text.splitlines()) & set(text.splitlines())
    assert kept == set(text.splitlines())
    assert {"StateDirectoryMode=0700", "UMask=0077", "WatchdogSec=180"} <= kept
    assert not [
        line for line in text.splitlines() if line.startswith(("Protect", "Restrict", "Cap"))
    ]


def test_every_problem_of_the_options_is_named_at_once() -> None:
    """What an operator gets to see is the whole list, not its first line."""
    options = UnitOptions("nixfleet", "/etc/a b", (Credential("../x", "y"),))

    with pytest.raises(UnusableInUnit) as raised:
        unit_of("agent", options)

    assert [it.partition(":")[0] for it in raised.value.problems] == [
        "the program",
        "the configuration",
        "the name of a credential",
        "the file of credential '../x'",
    ]


def test_the_command_prints_the_unit(nixfleet: Invoke) -> None:
    """What is printed is the file, byte for byte."""
    shown = nixfleet(
        *("units", "agent", "--program", "/opt/nixfleet", "--config", "/etc/a.toml"),
        *("--credential", "b:/etc/b:c"),
    )

    options = UnitOptions("/opt/nixfleet", "/etc/a.toml", (Credential("b", "/etc/b:c"),))
    assert shown.output == unit_of("agent", options).text


def test_the_command_refuses_what_a_unit_cannot_have(nixfleet: Invoke) -> None:
    """Exit code 2, with each value that is wrong."""
    shown = nixfleet("units", "notify", "--program", "nixfleet", "--credential", ".:/x")

    assert shown.exit_code == 2
    assert "the program: expected an absolute path" in shown.output
    assert "the name of a credential: expected letters" in shown.output


def test_the_documentation_shows_the_units_that_the_command_prints() -> None:
    """A unit that is copied from a page is the one that was tried."""
    how_to = Path(__file__).parents[2] / "docs" / "how-to"
    pages = {
        "control-plane": "running-a-control-plane.md",
        "agent": "running-an-agent.md",
        "notify": "being-told.md",
    }
    for kind, page in pages.items():
        assert f"nixfleet units {kind}" in (how_to / page).read_text(encoding="utf-8")
