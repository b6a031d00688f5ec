"""What the judges of one guard have said so far: counted, so that a record does not grow with the questions.

Whether that satisfies the guard is the planner's decision, which knows what was declared.
Source: docs/spec/guards.md, Verdicts.
"""

from datetime import datetime
from typing import Self, assert_never

from attrs import evolve, frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.steering.guards import APPROVALS


class Outcome(WordEnum):
    """What a judge says. INCONCLUSIVE: it cannot tell, which never passes. WAIVED: an operator goes on without it."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    WAIVED = "waived"


@frozen
@checked
class GuardTally:
    """The verdicts of one guard of one wave that has not begun.

    passed_by: the judges that passed, by name. passes, inconclusive: how many of the latest in a row. failures: how
    many in all. waived_by: who goes on without it. outcome, judge, reason, evidence, at: of the latest verdict.
    """

    wave: int
    guard: str
    outcome: Outcome
    judge: str
    reason: str
    at: datetime
    evidence: str = ""
    passed_by: tuple[str, ...] = ()
    passes: int = 0
    failures: int = 0
    inconclusive: int = 0
    waived_by: str | None = None

    @property
    def is_stated(self) -> bool:
        """Whether it has a statement that an operator signed."""
        return self.guard == APPROVALS or self.waived_by is not None

    def is_repeated_by(self, judge: str, outcome: Outcome) -> bool:
        """Whether the verdict says what `judge` has said before, where once is enough."""
        match outcome:
            case Outcome.PASS:
                return self.guard == APPROVALS and judge in self.passed_by
            case Outcome.WAIVED:
                return self.waived_by is not None
            case Outcome.FAIL | Outcome.INCONCLUSIVE:
                return False
            case _:
                assert_never(outcome)

    def after(self, judge: str, outcome: Outcome, reason: str, evidence: str, at: datetime) -> Self:
        """Return the tally with one verdict more. It is the same if that is a repetition."""
        if self.is_repeated_by(judge, outcome):
            return self
        latest = evolve(self, outcome=outcome, judge=judge, reason=reason, evidence=evidence, at=at)
        match outcome:
            case Outcome.PASS:
                passed_by = tuple(sorted({*self.passed_by, judge}))
                return evolve(latest, passed_by=passed_by, passes=self.passes + 1, inconclusive=0)
            case Outcome.FAIL:
                return evolve(latest, passes=0, failures=self.failures + 1, inconclusive=0)
            case Outcome.INCONCLUSIVE:
                return evolve(latest, passes=0, inconclusive=self.inconclusive + 1)
            case Outcome.WAIVED:
                return evolve(latest, waived_by=judge)
            case _:
                assert_never(outcome)


def unjudged(wave: int, guard: str, at: datetime) -> GuardTally:
    """Return the tally before the first verdict."""
    return GuardTally(wave, guard, Outcome.INCONCLUSIVE, "", "", at)
