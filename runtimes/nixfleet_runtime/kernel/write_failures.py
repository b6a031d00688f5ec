"""The failures of a write that a kernel must tell apart.

Any other exception of a write means that nothing was written: the kernel rolls back and tries the inputs one by one, so
that only the faulty one fails. A store settles an unknown outcome itself, before it returns; what is here is raised
when it cannot.
Source: docs/spec/runtimes.md, The kernel both sides share.
"""

from nixfleet_proto.errors import NixfleetError


class Unreachable(NixfleetError):
    """The store cannot be reached: nothing was written, and nothing would be now. Attributes: `where`, `problem`."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.where} cannot be reached, and nothing was written: {self.problem}"


class NotCurrent(NixfleetError):
    """Another process may have written since, so nothing is answered from memory. The input changed nothing."""

    def __str__(self) -> str:
        return "another process may have written since: nothing is answered from memory"


class WritingEnded(NixfleetError):
    """No further write is possible in this process. The kernel ends with this error, and with it the service."""


class OwnershipLost(WritingEnded):
    """Another process owns the data now, and nothing of the write was written. Subclasses say what to do.

    Attributes: `where`, `expected`, `found`.
    """

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(where, expected, found)
        self.where = where
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}: another process owns it now"


class OutcomeUnknown(WritingEnded):
    """Whether the write is durable could not be found out; a start reads it. Attributes: `where`, `problem`."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.where}: expected to find out whether a commit is durable, found {self.problem}; "
            "start again: a start reads what is there"
        )


class WriteOverdue(OutcomeUnknown):
    """A write did not end in time, and may still end. Attributes: `seconds`, the limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the store", f"a write that did not end within {seconds:g} s")
        self.seconds = seconds
