"""The command prints figures, or the path to a breach, and says by its exit status which."""

import re

import pytest

from nixfleet_testing.explore.command import main


def test_the_command_prints_figures_of_a_world_that_keeps_the_laws(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line for the policy: states, transitions, depth, seconds and the verdict; status 0."""
    assert main(["--hosts", "1", "--waves", "1", "--policy", "halt"]) == 0
    line = r"halt +\d+ states +\d+ transitions +depth \d+ +\d+\.\d s of CPU +every law holds\n"
    assert re.fullmatch(line, capsys.readouterr().out)


def test_the_command_with_both_policies_prints_a_line_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both policies are explored side by side, and told in order."""
    assert main(["--hosts", "1", "--waves", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["halt", "rollback-and-halt"]


def test_the_command_that_gives_up_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A world that was not walked to its end is no proof: status 2."""
    assert main(["--hosts", "3", "--policy", "halt", "--states-max", "50"]) == 2
    assert "not every world was seen" in capsys.readouterr().out


def test_the_command_refuses_bounds_without_a_world(capsys: pytest.CaptureFixture[str]) -> None:
    """Bounds that contradict each other are told as a usage error."""
    with pytest.raises(SystemExit, match="2"):
        main(["--hosts", "1", "--waves", "2"])
    assert "expected 1 to 1 waves, found 2" in capsys.readouterr().err
