"""The declarations that are shown to people: the example and those of the guide."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from nixfleet_proto.fleet import Meta
from nixfleet_release import DeclarationError, Fleet, check, load_release
from nixfleet_release.build.resolve import resolve

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/how-to/declaring-a-fleet.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code of one language in the guide."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)


BLOCKS = blocks("toml")


def test_the_example_is_a_good_declaration() -> None:
    """The example has no problem, two channels, and one warning to look at."""
    fleet = check(ROOT / "examples/fleet.toml")

    assert sorted(fleet.declaration.channels) == ["office", "stable"]
    assert [str(warning) for warning in fleet.warnings] == [
        "office-01: health check system-is-up of channel office shadows that of fleet"
    ]


def test_the_example_in_python_is_the_same_fleet() -> None:
    """Both come to the same signed bytes, checks and warnings."""
    written = check(ROOT / "examples/fleet.toml")
    example = runpy.run_path(str(ROOT / "examples/fleet_in_python.py"))["fleet"]
    assert isinstance(example, Fleet)
    built = example.check()

    closures = {name: f"abc-{name}" for name in written.declaration.hosts}
    assert built.health_checks == written.health_checks
    assert built.warnings == written.warnings
    assert resolve(built, closures, Meta(None)) == resolve(written, closures, Meta(None))


def test_the_fleet_of_the_guide_in_python_is_the_one_in_toml(tmp_path: Path) -> None:
    """But for its budget, it says what the first fleet of the guide does."""
    (program,) = [it for it in blocks("python") if "Fleet(" in it]
    (tmp_path / "fleet.toml").write_text(BLOCKS[0], encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(program, "declaring-a-fleet.md", "exec"), names)

    built, written = names["checked"], check(tmp_path)

    assert built.health_checks == written.health_checks
    assert built.declaration.hosts == written.declaration.hosts
    assert built.declaration.channels == written.declaration.channels


def test_the_first_fleet_of_the_guide_is_a_good_declaration(tmp_path: Path) -> None:
    """What a newcomer copies first is a whole fleet."""
    (tmp_path / "fleet.toml").write_text(BLOCKS[0], encoding="utf-8")

    assert check(tmp_path).warnings == ()


@pytest.mark.parametrize("index", range(1, len(BLOCKS)))
def test_what_the_guide_adds_to_it_is_good_too(tmp_path: Path, index: int) -> None:
    """Each further block of the guide, beside the first fleet, is a good declaration."""
    (tmp_path / "fleet.toml").write_text(BLOCKS[0], encoding="utf-8")
    (tmp_path / "more.toml").write_text(BLOCKS[index], encoding="utf-8")

    check(tmp_path)


def test_the_program_of_the_guide_makes_a_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run beside the first fleet, it leaves a release and prints its rollout."""
    (program,) = [it for it in blocks("python") if "name_closures" in it]
    (tmp_path / "fleet.toml").write_text(BLOCKS[0], encoding="utf-8")
    for hostname in ("web-01", "web-02", "db-01"):
        (tmp_path / "built" / hostname).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    exec(compile(program, "declaring-a-fleet.md", "exec"), {})

    assert capsys.readouterr().out == "stable@a1b2c3\n"
    assert list(load_release(tmp_path / "release").manifests) == ["stable@a1b2c3"]


def test_the_report_of_the_guide_is_what_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three mistakes that the guide shows are told in its words."""
    text = BLOCKS[0].replace('policy = "canary-first"', 'policy = "canary-frist"')
    text = text.replace('tags = ["web"]', 'tag = ["web"]')
    for gates, gated in (("db-01", "web-01"), ("web-01", "db-01")):
        text += f"[[edges]]\ngates = '{gates}'\ngated = '{gated}'\n"
    (tmp_path / "fleet.toml").write_text(text, encoding="utf-8")

    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeclarationError) as caught:
        check(Path("fleet.toml"))

    assert blocks("text") == [f"{caught.value}\n"]
