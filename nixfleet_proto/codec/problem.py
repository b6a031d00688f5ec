"""How bad bytes are reported: every problem at once, each with the path to it."""

from attrs import frozen

from nixfleet_proto.errors import NixfleetError


@frozen
class DecodeProblem:
    """One thing that is wrong, and where: `$` is the whole text, `$.event.seq` a field of it."""

    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


class DecodeError(NixfleetError):
    """Bytes are not what they should be. `what` was read; `problems` has at least one entry."""

    def __init__(self, what: str, problems: tuple[DecodeProblem, ...]) -> None:
        super().__init__(what, problems)
        self.what = what
        self.problems = problems

    def __str__(self) -> str:
        return f"not a valid {self.what}: " + "; ".join(map(str, self.problems))
