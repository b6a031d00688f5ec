"""A failing history is told by the little that it takes."""

import pytest

from nixfleet_simulation.report.minimise import minimise
from nixfleet_simulation.report.story import pasteable_test, story
from nixfleet_simulation.run.run import Outcome, run
from nixfleet_simulation.scenario.generate import draw
from tests.simulation.planted import FOUND_BY, does_not_read_quarantines_back

RUNS_MAX = 60


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """A run that found a planted bug, which stays planted."""
    does_not_read_quarantines_back(monkeypatch)
    outcome = run(draw(FOUND_BY[does_not_read_quarantines_back.__name__], 5, 0.1))
    assert outcome.broken is not None
    return outcome


def test_a_smaller_history_breaks_the_same_promise(failing: Outcome) -> None:
    """Most acts and hosts had nothing to do with it."""
    assert failing.broken is not None
    smaller = minimise(failing.scenario, failing.broken, runs_max=RUNS_MAX)
    broken = run(smaller).broken

    assert broken is not None
    assert broken.promise is failing.broken.promise
    assert len(smaller.acts) < len(failing.scenario.acts) / 4
    assert len(smaller.hosts) < len(failing.scenario.hosts)


def test_a_failing_seed_that_is_replayed_gives_the_same_trace(failing: Outcome) -> None:
    """What a report says can be seen again."""
    again = run(failing.scenario)

    assert str(again.broken) == str(failing.broken)
    assert again.trace.digest() == failing.trace.digest()


def test_a_pasted_test_fails_as_the_seed_did(
    failing: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source runs as it is, fails while the bug is there, and passes when it is gone."""
    assert failing.broken is not None
    source = "\n".join(pasteable_test(failing.scenario, failing.broken))
    names: dict[str, object] = {}
    exec(compile(source, "pasted", "exec"), names)
    pasted = names[f"test_seed_{failing.scenario.seed}_keeps_its_promises"]
    assert callable(pasted)

    with pytest.raises(AssertionError):
        pasted()
    monkeypatch.undo()
    pasted()


def test_a_story_ends_with_the_broken_promise(failing: Outcome) -> None:
    """The judge has the last word."""
    told = list(story(run(failing.scenario, keeps_lines=True)))

    assert str(failing.broken)[:60] in told[-1]
