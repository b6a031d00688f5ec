"""What is raised when a fleet cannot be released as it was declared."""

from collections.abc import Iterable

from nixfleet_runtime.documents.problems import Place, Problem, told


class DeclarationError(Exception):
    """A fleet that cannot be released as it was declared. `problems`: every one, sorted by place and path."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=_order))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return told("the fleet declaration", self.problems)


def _order(problem: Problem) -> tuple[Place, Problem]:
    return (problem.place or Place(""), problem)


class AdmissionError(Exception):
    """Revocations and nonces that cannot be signed as they are written. `problems`: every one, sorted by path."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return told("what is said of revocations and nonces", self.problems)
