"""`nixfleet simulate` prints the seed first, then what came of it."""

import pytest
from click.testing import CliRunner

from nixfleet_cli.main import main
from tests.simulation.planted import FOUND_BY, deletes_a_dispatch_when_it_is_handed_out

SHORT = ("--hosts", "3", "--days", "0.02")


def _simulate(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["simulate", *SHORT, *arguments])
    return done.exit_code, done.output


def test_the_seed_comes_first_and_figures_last() -> None:
    """Whatever happens in between can be seen again."""
    code, said = _simulate("--seed", "5", "--seeds", "2")
    lines = said.splitlines()

    assert code == 0
    assert lines[0] == "seed 5"
    assert "promises broken       0" in lines
    assert any(line.startswith("seed 6 ") for line in lines)


def test_without_a_seed_a_fresh_one_is_taken_and_printed() -> None:
    """So every run is another, and can be repeated."""
    seeds = {_simulate("--faults", "none")[1].splitlines()[0] for _ in range(2)}

    assert len(seeds) == 2


def test_only_the_faults_that_were_asked_for_come() -> None:
    """The others are left out."""
    _, said = _simulate("--seed", "5", "--faults", "network", "--days", "0.1")
    faults = next(line for line in said.splitlines() if line.startswith("faults"))

    assert {name.split()[0] for name in faults.partition(": ")[2].split(", ")} <= {
        "Partition",
        "LossyNetwork",
    }


def test_an_unknown_kind_of_fault_is_refused_with_the_known_ones() -> None:
    """A slip of the pen is no quiet night."""
    code, said = _simulate("--faults", "earthquake")

    assert code == 2
    assert "earthquake" in said
    assert "network" in said


def test_a_broken_promise_is_told_as_a_story_and_as_a_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who reads it knows what happened, and has a test of it."""
    deletes_a_dispatch_when_it_is_handed_out(monkeypatch)
    seed = FOUND_BY[deletes_a_dispatch_when_it_is_handed_out.__name__]
    code, said = _simulate("--seed", str(seed))

    assert code == 1
    assert f"seed {seed} breaks a promise" in said
    assert f"def test_seed_{seed}_keeps_its_promises() -> None:" in said
    assert "QueueDispatch" in said
