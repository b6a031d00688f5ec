"""A scenario file with a mistake is refused with the file, the line, what was expected and what was found."""

from pathlib import Path

import pytest

from tests.scenarios.rewrite import main
from tests.scenarios.scenario_file import read, text_of
from tests.scenarios.words import ScenarioError

BEGINNING = "# Mistakes.\n\nfleet hosts 2 waves 1 1\n\n"

MISTAKES = {
    "publsh r2": "5: expected a command: one of clear, crash,",
    "pass": "5: expected a duration like 30s, 5m or 2h, found the end of the command",
    "pass 5": "5: expected a duration like 30s, 5m or 2h, found '5'",
    "pass 0m": "5: expected a duration like 30s, 5m or 2h, found '0m'",
    "pass 5m\nshow all": "6: expected the end of the command, found 'all'",
    "publish r2 brokn web-01": "found 'brokn'; did you mean broken?",
    "publish r2 broken": "5: expected a host, found the end of the command",
    "publish r2 broken web-1": "5: unknown host 'web-1': expected one of web-01, web-02; did you mean",
    "publish r2 | publish r2": "5: channel stable has published 'r2' already",
    "expect web-01 Convergd": "did you mean Converged?",
    "publish r2\n\npass 1m\nexpect stable@r2 Terminl": "8: expected a rollout state: one of",
    "publish r2\n\nexpect web-01 runs r2": "7: web-01: expected r2, found closure-0",
    "crash web-01 after-wite": "did you mean after-write?",
    "cut web-01 sideways 5m": "5: expected a direction: one of both, down, up, found 'sideways'",
    "resume stable": "5: ResumeScope was refused",
    "clear stable@r9": "5: unknown rollout 'stable@r9'",
}  # fmt: skip


@pytest.mark.parametrize("commands", MISTAKES)
def test_a_mistake_names_file_line_and_what_was_expected(tmp_path: Path, commands: str) -> None:
    """The error begins with the place, and says what would have been right."""
    path = tmp_path / "mistake.txt"
    path.write_text(BEGINNING + commands + "\n")
    with pytest.raises(ScenarioError) as raised:
        text_of(read(path))
    assert str(raised.value).startswith(f"{path}:")
    assert MISTAKES[commands] in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: expected a comment that says what the file documents"),
        ("fleet hosts 1\n", "1: expected a comment"),
        ("# Only this.\n", "2: expected the command fleet"),
        ("# No fleet.\n\npublish r2\n", "3: expected the command fleet first, found 'publish r2'"),
        ("# Waves.\n\nfleet hosts 3 waves 1 1\n", "3: waves of channel stable: expected sizes"),
        ("# Word.\n\nfleet hsts 3\n", "3: expected an option of the fleet: one of"),
        ("# Number.\n\nfleet hosts many\n", "3: expected the number of hosts, found 'many'"),
        ("# Off.\n\nfleet hosts 1 off db-01\n", "3: unknown host 'db-01'"),
    ],
)
def test_a_file_without_a_proper_beginning_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """A comment comes first, then the fleet."""
    path = tmp_path / "mistake.txt"
    path.write_text(text)
    with pytest.raises(ScenarioError) as raised:
        text_of(read(path))
    assert said in str(raised.value)


def test_rewriting_a_file_with_a_mistake_leaves_it_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints the mistake, returns 1, and does not write."""
    path = tmp_path / "mistake.txt"
    path.write_text(BEGINNING + "publsh r2\n")
    assert main([str(path)]) == 1
    assert path.read_text() == BEGINNING + "publsh r2\n"
    assert "did you mean publish?" in capsys.readouterr().err
