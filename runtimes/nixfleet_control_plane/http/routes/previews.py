"""The route of previews: what a command would do. Nothing is carried out, and nothing is written.

The body names the path and the body of the command, which are read by the command's own route.
Source: docs/spec/wire.md, Operator calls; docs/spec/forecast.md, Previews.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final
from urllib.parse import unquote

import orjson
from attrs import field, frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.forecaster import Forecaster, NoForecast, Question
from nixfleet_control_plane.http.answers import (
    bytes_answer,
    malformed,
    no_content,
    refusal,
)
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.routes.forecasts import no_answer
from nixfleet_control_plane.http.routes.operator import OPERATOR_CALLS, OperatorRoutes
from nixfleet_control_plane.messages.inputs import OperatorCommand, SkipHosts
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.previews import (
    ORDER,
    PREVIEW,
    PREVIEW_BODY,
    STATEMENT,
    PreviewBody,
)

_COMMANDS: Final = tuple(call for call in OPERATOR_CALLS if call.caller is Caller.OPERATOR)


@frozen
class _Meant(OperatorRoutes):
    """Reads commands as their routes do, and carries none out. name: of the operator. found: the command."""

    name: str = ""
    sent: bytes = b""
    found: list[OperatorCommand] = field(factory=list[OperatorCommand])

    async def _execute(
        self, request: Request, command_of: Callable[[str, bytes], OperatorCommand]
    ) -> Response:
        self.found.append(command_of(self.name, self.sent))
        return no_content()


@frozen
class PreviewRoutes:
    """The call that previews a command. operators: whose routes read it."""

    forecaster: Forecaster
    authenticator: Authenticator
    operators: OperatorRoutes

    async def preview(self, request: Request) -> Response:
        """What a command would do: who begins, what is taken back, and where rollouts stop."""
        asked = await self.authenticator.operator(request, OperatorRole.READ, body_bytes_max=None)
        try:
            question = await self._question(PREVIEW_BODY.decode(asked.body), asked.operator.name)
        except DecodeError as error:
            raise malformed(error) from error
        try:
            found = await self.forecaster.preview(question)
        except NoForecast as error:
            raise no_answer(error, "preview") from error
        return bytes_answer(PREVIEW.encode(found), "application/json")

    async def _question(self, body: PreviewBody, name: str) -> Question:
        call, names = _named(body.path)
        sent = orjson.dumps(dict(body.body))
        if call.endpoint is OperatorRoutes.approve:
            said = STATEMENT.decode(sent)
            return Question(
                statement={
                    "rolloutId": _rollout_id(names),
                    "wave": said.wave,
                    "decision": said.decision.value,
                    "operator": name,
                },
            )
        if call.endpoint is OperatorRoutes.relay_warrant:
            ordered = ORDER.decode(sent)
            return Question(
                order={
                    "rolloutId": _rollout_id(names),
                    "rule": ordered.rule.value,
                    "hosts": list(ordered.hosts),
                    "expiresMinutes": ordered.expires_minutes,
                    "operator": name,
                },
            )
        own = self.operators
        meant = _Meant(
            own.service, own.authenticator, own.queries, own.contacts, name=name, sent=sent
        )
        await call.endpoint(meant, Request({"type": "http", "path_params": names, "headers": []}))
        (command,) = meant.found
        return Question(command, heard=self._heard(command))

    def _heard(self, command: OperatorCommand) -> Mapping[str, datetime]:
        """Return when the hosts were heard of that must have been silent: the log does not say."""
        if not isinstance(command, SkipHosts):
            return {}
        contacts = {host: self.operators.contacts.last(host) for host in command.hosts}
        return {host: contact.at for host, contact in contacts.items() if contact is not None}


def _rollout_id(names: Mapping[str, str]) -> RolloutId:
    try:
        return RolloutId(names["rollout_id"])
    except InvalidRolloutId as error:
        title = "The rollout is unknown"
        raise refusal("rollout-unknown", title, 404, str(error)) from error


def _named(path: str) -> tuple[Call[OperatorRoutes], dict[str, str]]:
    """Return the command that `path` is of, and the names in it. Raises: the refusal of another path."""
    parts = path.split("/")
    for call in _COMMANDS:
        wanted = call.path.split("/")
        if len(wanted) == len(parts) and all(map(_fits, wanted, parts)):
            names = zip(wanted, parts, strict=True)
            with suppress(UnicodeDecodeError):
                return call, {it[1:-1]: _decoded(part) for it, part in names if it.startswith("{")}
    expected = "the path of an operator's command"
    detail = f"$.path: expected {expected}, found {path[:100]!r}"
    raise refusal("command-unknown", "The command is unknown", 404, detail)


def _decoded(part: str) -> str:
    return unquote(part, errors="strict")


def _fits(wanted: str, part: str) -> bool:
    return bool(part) if wanted.startswith("{") else wanted == part


PREVIEW_CALLS: Final[tuple[Call[PreviewRoutes], ...]] = (
    Call(
        "POST",
        paths.PREVIEW,
        PreviewRoutes.preview,
        Caller.READER,
        (
            Answer(200, "what it would do, or why it would be refused", PREVIEW),
            Answer(404, "no command has that path, or forecasts are off"),
            Answer(503, "none at the moment; the detail says why"),
        ),
        PREVIEW_BODY,
    ),
)
