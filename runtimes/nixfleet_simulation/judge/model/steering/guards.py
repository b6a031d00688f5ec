"""A second implementation of guards: what was said of the waves that have not begun, and whether one may begin.

Source: docs/spec/guards.md.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from attrs import Factory, define, frozen

from nixfleet_proto.steering.guards import WaveGuards

MATCHES: Final[Mapping[str, str]] = {"pass": "approve", "fail": "deny", "waived": "promote"}
"""What an operator must have stated for a verdict with this outcome."""


@frozen
class Statement:
    """What an operator stated. is_genuine: signed with the operator's own key, by one who may operate."""

    operator: str
    rollout_id: str
    wave: int
    manifest_hash: str
    decision: str
    signed_at: datetime
    is_genuine: bool


@define
class Tally:
    """What was said of one guard. in_a_row, unclear: of the latest answers, how many passed, and said nothing."""

    passed: set[str] = Factory(set[str])
    in_a_row: int = 0
    failures: int = 0
    unclear: int = 0
    is_waived: bool = False

    def hear(self, judge: str, outcome: str) -> None:
        """Note one verdict."""
        match outcome:
            case "pass":
                self.passed.add(judge)
                self.in_a_row, self.unclear = self.in_a_row + 1, 0
            case "fail":
                self.failures += 1
                self.in_a_row = self.unclear = 0
            case "inconclusive":
                self.in_a_row, self.unclear = 0, self.unclear + 1
            case _:
                self.is_waived = True


@define
class Said:
    """What was said of the guards of a rollout. by_guard: by wave and name of the guard."""

    by_guard: dict[tuple[int, str], Tally] = Factory(dict[tuple[int, str], Tally])

    def hear(self, wave: int, guard: str, judge: str, outcome: str) -> None:
        """Note one verdict."""
        self.by_guard.setdefault((wave, guard), Tally()).hear(judge, outcome)

    def forget(self) -> None:
        """Forget everything: whoever has said something must say it again."""
        self.by_guard.clear()

    def begin(self, wave: int) -> None:
        """Forget what was said of the waves up to this one, which begin."""
        for key in [key for key in self.by_guard if key[0] <= wave]:
            del self.by_guard[key]

    def of(self, wave: int, guard: str) -> Tally:
        """Return what was said of a guard."""
        return self.by_guard.get((wave, guard), Tally())

    def breaks(self, wave: int, guards: WaveGuards) -> bool:
        """Return whether a guard of the wave can be satisfied no more."""
        denied = guards.approvals is not None and self.of(wave, "approvals").failures > 0
        return denied or any(
            (tally := self.of(wave, check.name)).failures > check.failures
            or (check.inconclusive is not None and tally.unclear > check.inconclusive)
            for check in guards.checks
        )

    def lets_begin(self, wave: int, guards: WaveGuards) -> bool:
        """Return whether every guard of the wave is satisfied or waived."""
        bake, approvals = self.of(wave, "bake"), self.of(wave, "approvals")
        asked = guards.approvals
        enough = asked is None or len(approvals.passed & {*asked.names}) >= asked.count
        return (
            (guards.bake_minutes == 0 or bool(bake.passed) or bake.is_waived)
            and (enough or approvals.is_waived)
            and all(
                (tally := self.of(wave, check.name)).in_a_row >= check.passes or tally.is_waived
                for check in guards.checks
            )
        )
