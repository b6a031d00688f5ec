"""Errors of declarations and of the lists that are signed with a release."""

from collections.abc import Iterable

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.documents.problems import Place, Problem, problem_report


class DeclarationError(NixfleetError):
    """The fleet declaration is invalid. problems: all of them, sorted by place and path."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=_order))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return problem_report("the fleet declaration", self.problems)


def _order(problem: Problem) -> tuple[Place, Problem]:
    return (problem.place or Place(""), problem)


class AdmissionError(NixfleetError):
    """The revocations or nonces are invalid. problems: all of them, sorted by path."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return problem_report("the file of revocations and nonces", self.problems)
