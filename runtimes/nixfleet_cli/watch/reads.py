"""What `nixfleet watch` asks a control plane by: one question, one answer."""

from typing import Protocol, TypeVar

from nixfleet_proto.codec.strict import Coder

T = TypeVar("T")


class Reads(Protocol):
    """What asks a control plane; `OperatorClient` does."""

    async def read(self, path: str, coder: Coder[T]) -> T:
        """Return what is at `path`. Raises: Refused, Unusable."""
        ...
