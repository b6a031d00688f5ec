"""Why a study cannot be made."""

from nixfleet_proto.errors import NixfleetError


class StudyRefused(NixfleetError):
    """What is asked for is not in the log. Attributes: `why`, for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return self.why
