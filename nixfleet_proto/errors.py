"""The base of every error of nixfleet, and the error for a value that is not what it should be.

An error that a caller may want to catch derives from `NixfleetError`, in every package. Errors carry their facts as
attributes; their text is for people.
"""

from attrs import frozen


class NixfleetError(Exception):
    """Base of the errors that nixfleet raises on purpose. Anything else that is raised is a bug."""


@frozen
class ValueProblem:
    """One value that is wrong. path: the field or argument, with the item meant: `probes[2]`, `targets['web-01']`."""

    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


class InvalidValue(NixfleetError, ValueError):
    """A record or a call was given values of a wrong type, times without an offset, or values that contradict.

    what: the class or function that was given them. problems: all that is wrong, at least one.
    """

    def __init__(self, what: str, problems: tuple[ValueProblem, ...]) -> None:
        super().__init__(what, problems)
        self.what = what
        self.problems = problems

    def __str__(self) -> str:
        return f"{self.what}: " + "; ".join(map(str, self.problems))
