"""The contracts are as good as the bugs that they catch: each planted one, by a test that says what is wrong."""

import pytest

from tests.contracts.kill_rate import PORTS, caught_by, failures_of, seeded_bugs

BUGS_MIN = 20


@pytest.mark.parametrize("port", PORTS)
def test_every_planted_bug_is_caught_in_words_that_say_what_is_wrong(port: str) -> None:
    """Each implementation with one bug fails a test of its contract, with the message it should."""
    failures = failures_of([port])
    missed = {
        bug.name: [(f.test, f.message) for f in failures if f.name == bug.name]
        for bug in seeded_bugs(port)
        if caught_by(bug, failures) is None
    }

    assert missed == {}, "nothing caught these, or not in the words that it should"


def test_there_are_planted_bugs_enough_for_each_contract() -> None:
    """No contract is without a measure, and every planted bug says in one sentence what it does."""
    bugs = {port: seeded_bugs(port) for port in PORTS}

    assert all(bugs.values())
    assert sum(map(len, bugs.values())) >= BUGS_MIN
    assert [bug for of_port in bugs.values() for bug in of_port if bug.does.count(".") != 1] == []
