"""What can be asked here: one definition each, from which the route is made and the OpenAPI document is written.

Data. What becomes of a call is its endpoint's to say; who may make it is checked there, and by a test for every call.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum, auto
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.query import Parameter
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.frozen_map import FrozenMap

R = TypeVar("R")
Endpoint: TypeAlias = Callable[[R, Request], Awaitable[Response]]


class Caller(Enum):
    """Who may make a call; all but `ANYBODY` sign it."""

    ANYBODY = auto()
    NEWCOMER = auto()
    HOST = auto()
    READER = auto()
    OPERATOR = auto()


@frozen
class Answer:
    """An answer that is peculiar to a call.

    content: what its body is; a media type for bytes, `None` for no body, or a problem if it is an error.
    """

    status: int
    description: str
    content: Coder[Any] | str | None = None
    headers: Mapping[str, str] = FrozenMap()


@frozen
class Call(Generic[R]):
    """One thing that can be asked. The first line of the endpoint's docstring says what it answers.

    endpoint: a method of the class of routes that serves it. takes: what its body is, if it has one.
    """

    method: str
    path: str
    endpoint: Endpoint[R]
    caller: Caller
    answers: tuple[Answer, ...]
    takes: Coder[Any] | None = None
    query: tuple[Parameter, ...] = ()

    @property
    def name(self) -> str:
        """What the call is called, in the document and by who generates clients from it."""
        return self.endpoint.__name__
