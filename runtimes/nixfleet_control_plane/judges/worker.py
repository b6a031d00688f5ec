"""The task that asks judges. It decides nothing: `schedule` says whom to ask, and the engine what an answer is for."""

import logging
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Final

import anyio

from nixfleet_control_plane.engine.guard_verdicts import AskedCheck
from nixfleet_control_plane.judges.answers import shown
from nixfleet_control_plane.judges.judge import Answer, Judge, Question, unclear
from nixfleet_control_plane.judges.schedule import due_checks
from nixfleet_control_plane.messages.inputs import CheckQuestion, ReportVerdict
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import EngineFault, MutatorClosed, WriteFailed

LOOKS_SECONDS: Final = 1.0
"""How often it looks whether a check is due: in memory, O(rollouts)."""
ASKED_AT_ONCE_MAX: Final = 8
JUDGE_SECONDS_MAX: Final = 120.0
"""How long any judge may take, whatever it promises."""

_log = logging.getLogger(__name__)


class JudgeWorker:
    """Asks judges by name, several at once, each check once at a time."""

    def __init__(
        self, service: ControlPlaneService, judges: Mapping[str, Judge], clock: Clock
    ) -> None:
        self._service = service
        self._judges = judges
        self._clock = clock
        self._last: dict[CheckQuestion, datetime] = {}
        self._under_way: set[CheckQuestion] = set()
        self._limit = anyio.CapacityLimiter(ASKED_AT_ONCE_MAX)

    async def run(self) -> None:
        """Ask, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                for asked in self.due():
                    tasks.start_soon(partial(self.ask, asked))
                await self._clock.sleep(LOOKS_SECONDS)

    def due(self) -> tuple[AskedCheck, ...]:
        """Return the checks to ask now, and note that they are."""
        asked, now = self._service.asked_checks(), self._clock.now()
        keys = {each.question for each in asked}
        self._last = {key: at for key, at in self._last.items() if key in keys}
        due = due_checks(asked, self._last, now)
        due = tuple(each for each in due if each.question not in self._under_way)
        for each in due:
            self._last[each.question] = now
            self._under_way.add(each.question)
        return due

    async def ask(self, asked: AskedCheck) -> None:
        """Ask one judge, and post what it says."""
        try:
            async with self._limit:
                answer = await self._answer(asked)
            await self._service.report_verdict(
                ReportVerdict(asked.question, answer.outcome, answer.reason, answer.evidence)
            )
        except (WriteFailed, EngineFault, MutatorClosed) as error:
            _log.error("an answer to check %s was not taken: %s", asked.check.name, error)
        finally:
            self._under_way.discard(asked.question)

    async def _answer(self, asked: AskedCheck) -> Answer:
        judge = self._judges.get(asked.check.judge)
        if judge is None:
            return unclear(f"no judge {asked.check.judge} is configured")
        question = Question(asked.question.rollout_id, asked.question.wave, asked.check)
        try:
            with anyio.fail_after(JUDGE_SECONDS_MAX):
                return await judge.ask(question)
        except Exception as error:  # An embedder's judge may raise anything, and the others go on.
            _log.warning("judge %s failed", asked.check.judge, exc_info=error)
            return unclear(f"the judge failed: {type(error).__name__}: {shown(error)}")
