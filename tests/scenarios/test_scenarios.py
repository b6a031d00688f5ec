"""Every scenario file holds the output that its commands have, and documents one thing."""

from pathlib import Path

import pytest

from tests.scenarios.rewrite import DIRECTORY, main
from tests.scenarios.scenario_file import read, text_of

FILES = sorted(DIRECTORY.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_running_a_scenario_gives_its_output(path: Path) -> None:
    """Each file is fresh; `make scenarios` rewrites it, and its diff is to be read."""
    assert text_of(read(path)) == path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_says_what_it_documents_and_expects_something(path: Path) -> None:
    """The first line is one sentence, and at least one `expect` says what matters."""
    scenario = read(path)
    assert len(scenario.header) == 1
    assert scenario.header[0].endswith(".")
    texts = [command.text for block in scenario.blocks for command in block.commands]
    assert any(text.startswith("expect ") for text in texts)


def test_rewriting_changes_only_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file without output gets it; a second rewrite changes nothing."""
    path = tmp_path / "new.txt"
    path.write_text("# A release.\n\nfleet hosts 1\n\npublish r2 | pass 1m\n\nshow\n")
    assert main([str(path)]) == 0
    assert "publish r2 | pass 1m\n----\n+0:00:00  you" in path.read_text()
    assert f"rewrote {path}" in capsys.readouterr().out
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == ""
