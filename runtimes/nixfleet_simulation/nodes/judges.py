"""The judges of checks: each is asked what the production engine says is to be asked, and answers later, or never.

An answer may come when its question is asked no more: after a clearance, another manifest, or the wave's beginning.
"""

from collections.abc import Callable, Mapping
from typing import Final

from nixfleet_control_plane.messages.inputs import CheckQuestion, ReportVerdict
from nixfleet_simulation.nodes.agenda import SECOND, Agenda
from nixfleet_simulation.nodes.control_plane import ControlPlaneNode
from nixfleet_simulation.scenario.randomness import Seed, stream
from nixfleet_simulation.scenario.steering_acts import Says
from nixfleet_state_machine.rollout.guard_tally import Outcome

LOOKS_EVERY: Final = 5 * SECOND
GIVEN_UP_AFTER: Final = 40 * SECOND
OUTCOMES: Final[Mapping[Says, Outcome]] = {
    Says.PASS: Outcome.PASS,
    Says.FAIL: Outcome.FAIL,
    Says.INCONCLUSIVE: Outcome.INCONCLUSIVE,
}


class Judges:
    """All judges of a fleet. says: what that of each channel says, if not that it passes."""

    def __init__(self, agenda: Agenda, seed: Seed, control_plane: ControlPlaneNode) -> None:
        self.says: dict[str, Says] = {}
        self._agenda = agenda
        self._rng = stream(seed, "judges")
        self._control_plane = control_plane
        self._asked: set[CheckQuestion] = set()
        self._is_clear = False

    def look(self) -> None:
        """Ask what is to be asked, and look again later."""
        control_plane = self._control_plane
        now = control_plane.clock.now()
        for asked in control_plane.asked_checks() if control_plane.is_up else ():
            wait = asked.check.interval_seconds if asked.is_answered else 0
            is_due = (now - asked.since).total_seconds() >= wait
            if is_due and asked.question not in self._asked:
                self._ask(asked.question)
        self._agenda.after(LOOKS_EVERY, None, self.look)

    def _ask(self, question: CheckQuestion) -> None:
        self._asked.add(question)
        says = self.says.get(question.rollout_id.partition("@")[0], Says.PASS)
        if says is Says.SILENT:
            self._later(GIVEN_UP_AFTER, self._asked.discard, question)
        else:
            delay = self._rng.choice((SECOND // 5, 2 * SECOND, 15 * SECOND, 90 * SECOND))
            self._later(delay, self._answer, question, self._outcome(says))

    def _outcome(self, says: Says) -> Outcome:
        if says is not Says.BY_TURNS:
            return OUTCOMES[says]
        self._is_clear = not self._is_clear
        return Outcome.PASS if self._is_clear else Outcome.INCONCLUSIVE

    def _answer(self, question: CheckQuestion, outcome: Outcome) -> None:
        self._asked.discard(question)
        self._control_plane.post(ReportVerdict(question, outcome, "as it was told", "1"))

    def _later(self, delay: int, happen: Callable[..., None], *arguments: object) -> None:
        self._agenda.after(delay, None, happen, *arguments)
