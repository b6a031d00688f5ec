"""The guards of a wave: what must have happened before it begins. Frozen data, signed with the fleet.

Two kinds: a bake, which waits, and quorums, which ask judges. An approval and a check are both quorums.
Source: docs/spec/guards.md.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Final, Self, TypeAlias, assert_never

from attrs import frozen

from nixfleet_proto.checked import WordEnum, at_least, at_most, checked
from nixfleet_proto.errors import ValueProblem

BAKE: Final = "bake"
"""The name of the guard that waits."""
APPROVALS: Final = "approvals"
"""The name of the guard that operators satisfy."""

BAKE_MINUTES_MAX: Final = 2**31 - 1
CHECKS_MAX: Final = 16
JUDGES_MAX: Final = 64
QUERY_LENGTH_MAX: Final = 4096
NAME_LENGTH_MAX: Final = 64
INTERVAL_SECONDS_MIN: Final = 5
COUNT_MAX: Final = 1_000_000

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_COMPARISON: Final = re.compile(r"(==|!=|<=|>=|<|>) *([^ ].*)")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_TEXT: Final = re.compile(r'"([^"\\\x00-\x1f]{0,200})"')


class Operator(WordEnum):
    """How a value is compared with a threshold."""

    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    EQUAL = "=="
    OTHER = "!="

    @property
    def is_order(self) -> bool:
        """Whether it compares numbers by size."""
        return self is not Operator.EQUAL and self is not Operator.OTHER


Scalar: TypeAlias = Decimal | str | bool
"""What a judge's value may be."""


@frozen
class Comparison:
    """A comparison with a threshold, which passes or fails."""

    operator: Operator
    threshold: Scalar

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the comparison that `text` is, such as `< 0.01` or `== "ready"`; `None`: it is none.

        Texts and truth values are compared by `==` and `!=` alone.
        """
        found = _COMPARISON.fullmatch(text)
        if found is None:
            return None
        operator, threshold = Operator(found[1]), _scalar(found[2])
        if threshold is None or (operator.is_order and not isinstance(threshold, Decimal)):
            return None
        return cls(operator, threshold)

    def holds(self, value: Scalar) -> bool | None:
        """Return whether it holds for `value`; `None`: they cannot be compared, as a text with a number."""
        if isinstance(value, Decimal):
            if not isinstance(self.threshold, Decimal) or value.is_nan():
                return None
            return _holds(self.operator, value, self.threshold)
        if type(value) is not type(self.threshold):
            return None
        is_equal = value == self.threshold
        return is_equal if self.operator is Operator.EQUAL else not is_equal


def _holds(operator: Operator, value: Decimal, threshold: Decimal) -> bool:
    match operator:
        case Operator.LESS:
            return value < threshold
        case Operator.AT_MOST:
            return value <= threshold
        case Operator.MORE:
            return value > threshold
        case Operator.AT_LEAST:
            return value >= threshold
        case Operator.EQUAL:
            return value == threshold
        case Operator.OTHER:
            return value != threshold
        case _:
            assert_never(operator)


def _scalar(text: str) -> Scalar | None:
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    quoted = _TEXT.fullmatch(text)
    return None if quoted is None else quoted[1]


class Counting(WordEnum):
    """How the passes of a quorum are counted."""

    DISTINCT = "distinct"
    CONSECUTIVE = "consecutive"


@frozen
@checked
class Quorum:
    """How many verdicts of which judges satisfy a guard, and how many break its wave.

    passes: how many are needed; DISTINCT: of as many judges, CONSECUTIVE: in a row. failures: how many may fail.
    inconclusive: how many in a row may say nothing; `None`: any number.
    """

    judges: tuple[str, ...]
    passes: int
    counting: Counting
    failures: int = 0
    inconclusive: int | None = None


@frozen
@checked
class Approvals:
    """`count` different operators of `names` must approve. One that denies breaks the wave."""

    count: int
    names: tuple[str, ...]

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("count", self.count, 1)
        yield from at_most("count", self.count, len(self.names))
        if len(self.names) > JUDGES_MAX:
            yield ValueProblem("names", f"at most {JUDGES_MAX} names", f"{len(self.names)}")
        for name in _repeated(self.names):
            yield ValueProblem("names", "each name once", f"{name!r} again")
        for name in self.names:
            if not name or len(name) > NAME_LENGTH_MAX:
                expected = f"names of 1 to {NAME_LENGTH_MAX} characters"
                yield ValueProblem("names", expected, f"{len(name)} characters")

    @property
    def quorum(self) -> Quorum:
        """What it asks for, as a quorum."""
        return Quorum(self.names, self.count, Counting.DISTINCT)


@frozen
@checked
class Check:
    """A question that is asked outside again and again, and the answer that passes.

    judge: who is asked; where that one is, is the control plane's configuration. query: what is asked, in the language
    of the judge. comparison: of the answer with a threshold, such as `< 0.01`. passes: how many in a row are needed.
    failures, inconclusive: how many may fail, and how many in a row may say nothing, before the wave is broken.
    """

    name: str
    judge: str
    query: str
    comparison: str
    passes: int
    failures: int = 0
    inconclusive: int | None = None
    interval_seconds: int = 60

    def _contradictions(self) -> Iterator[ValueProblem]:
        for field, text in (("name", self.name), ("judge", self.judge)):
            if not is_name(text):
                yield ValueProblem(field, NAME_EXPECTED, repr(text[: NAME_LENGTH_MAX + 1]))
        if self.name in (BAKE, APPROVALS):
            yield ValueProblem("name", "another name: it is that of a guard", repr(self.name))
        if not 0 < len(self.query) <= QUERY_LENGTH_MAX:
            expected = f"1 to {QUERY_LENGTH_MAX} characters"
            yield ValueProblem("query", expected, f"{len(self.query)}")
        if Comparison.parse(self.comparison) is None:
            yield ValueProblem("comparison", COMPARISON_EXPECTED, repr(self.comparison[:80]))
        for field, number, least in (
            ("passes", self.passes, 1),
            ("failures", self.failures, 0),
            ("inconclusive", self.inconclusive or 0, 0),
            ("interval_seconds", self.interval_seconds, INTERVAL_SECONDS_MIN),
        ):
            yield from at_least(field, number, least)
            yield from at_most(field, number, COUNT_MAX)

    @property
    def quorum(self) -> Quorum:
        """What it asks for, as a quorum."""
        return Quorum(
            (self.judge,), self.passes, Counting.CONSECUTIVE, self.failures, self.inconclusive
        )


NAME_EXPECTED: Final = f"lower-case letters, digits and hyphens, at most {NAME_LENGTH_MAX}"
COMPARISON_EXPECTED: Final = (
    'one of == != < <= > >= and a number; or == or != and a text in quotes, true or false: "< 0.01"'
)


def is_name(text: str) -> bool:
    """Whether `text` can be the name of a check or of a judge."""
    return len(text) <= NAME_LENGTH_MAX and _NAME.fullmatch(text) is not None


@frozen
@checked
class WaveGuards:
    """What must have happened before a wave begins; by default nothing.

    bake_minutes: how long the wave before must have been done; for the first wave, how long the rollout must have
    been open. waivable: the names of the guards that an operator may waive.
    """

    bake_minutes: int = 0
    approvals: Approvals | None = None
    checks: tuple[Check, ...] = ()
    waivable: tuple[str, ...] = ()

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("bake_minutes", self.bake_minutes, 0)
        yield from at_most("bake_minutes", self.bake_minutes, BAKE_MINUTES_MAX)
        if len(self.checks) > CHECKS_MAX:
            yield ValueProblem("checks", f"at most {CHECKS_MAX} checks", f"{len(self.checks)}")
        for name in _repeated([check.name for check in self.checks]):
            yield ValueProblem("checks", "a name of its own for each", f"{name!r} again")
        for name in _repeated(self.waivable):
            yield ValueProblem("waivable", "each name once", f"{name!r} again")
        for name in self.waivable:
            if name not in self.names:
                expected = f"guards of the wave: {', '.join(self.names) or 'it has none'}"
                yield ValueProblem("waivable", expected, repr(name))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its guards: `bake`, `approvals`, and those of its checks, in order."""
        bake = (BAKE,) if self.bake_minutes else ()
        approvals = () if self.approvals is None else (APPROVALS,)
        return (*bake, *approvals, *(check.name for check in self.checks))

    @property
    def is_declared(self) -> bool:
        """Whether the wave has any guard."""
        return bool(self.bake_minutes or self.approvals or self.checks)

    @property
    def quorums(self) -> Mapping[str, Quorum]:
        """The guards that ask judges, by name, in order."""
        approvals = {} if self.approvals is None else {APPROVALS: self.approvals.quorum}
        return {**approvals, **{check.name: check.quorum for check in self.checks}}


def _repeated(names: Collection[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
