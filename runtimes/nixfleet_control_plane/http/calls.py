"""The definition of a call, from which both its route and its entry in the OpenAPI document are made. Data.

The endpoint handles the call and authenticates the caller; a test checks that for every call.
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
    """Who may make a call. All except `ANYBODY` sign it."""

    ANYBODY = auto()
    ENROLLING_HOST = auto()
    HOST = auto()
    READER = auto()
    OPERATOR = auto()


@frozen
class Answer:
    """A response specific to a call.

    content: the coder of the body, or a media type for bytes. `None`: no body, or a problem if the status is an error.
    """

    status: int
    description: str
    content: Coder[Any] | str | None = None
    headers: Mapping[str, str] = FrozenMap()


@frozen
class Call(Generic[R]):
    """One call. The first line of the endpoint's docstring is its summary in the OpenAPI document.

    endpoint: a method of the class of routes that serves it. takes: the coder of the request's body, if it has one.
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
        """The `operationId` in the OpenAPI document, and the method name in clients generated from it."""
        return self.endpoint.__name__
