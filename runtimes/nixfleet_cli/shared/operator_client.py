"""An operator's way to a control plane: signed, and its refusals in words for who asked."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Protocol, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
from attrs import frozen

from nixfleet_cli.shared.arguments import load_key
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.strict import Coder
from nixfleet_runtime.config.sections import is_loopback
from nixfleet_runtime.http.client import NoAnswer, SignedClient, signed_client
from nixfleet_runtime.http.headers import RETRY_AFTER
from nixfleet_runtime.http.listings import PAGE_LENGTH_MAX
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem, decode_problem
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.kernel.clock import Clock


class Page(Protocol):
    """What a list comes in."""

    @property
    def next(self) -> str | None:
        """What to ask for after it."""
        ...


P = TypeVar("P", bound=Page)
T = TypeVar("T")


@frozen
class Address:
    """Where the control plane is, and who asks."""

    url: str
    name: str
    key_file: Path
    ca_certificate_file: Path | None = None
    is_plain_http_permitted: bool = False


class OperatorClient:
    """One operator's way to one control plane. Raises: Findings for a refusal, Unusable without an answer."""

    def __init__(self, client: SignedClient, address: Address) -> None:
        self._client = client
        self._address = address

    async def command(self, path: str, body: bytes) -> None:
        """Return when the control plane has done it, and it is in the log."""
        await self._send("POST", path, body)

    async def read(self, path: str, coder: Coder[T]) -> T:
        """Return what is at `path`."""
        answer = await self._send("GET", path)
        try:
            return coder.decode(answer.content)
        except DecodeError as error:
            raise Unusable(
                f"{self._address.url} answers what is not understood: {error}"
            ) from error

    async def pages(self, path: str, coder: Coder[P], after: str | None = None) -> AsyncIterator[P]:
        """Yield every page of a list from `after` on."""
        while True:
            begin = "" if after is None else f"&after={quote(after, safe='')}"
            page = await self.read(f"{path}?limit={PAGE_LENGTH_MAX}{begin}", coder)
            yield page
            after = page.next
            if after is None:
                return

    async def _send(self, method: str, path: str, body: bytes = b"") -> httpx2.Response:
        try:
            answer = await self._client.send(method, path, body)
        except NoAnswer as error:
            raise Unusable(f"no answer from {self._address.url}: {error}") from error
        if answer.is_success:
            return answer
        problem = decode_problem(answer.content, answer.status_code)
        if answer.is_server_error:
            raise Unusable(self._later(problem, answer.headers))
        raise Findings(self._refused(problem))

    def _later(self, problem: HttpProblem, headers: Mapping[str, str]) -> str:
        seconds = headers.get(RETRY_AFTER)
        when = "" if seconds is None else f": nothing was done; try again in {seconds} s"
        return f"{self._address.url} cannot do it now ({problem.status}): {_said(problem)}{when}"

    def _refused(self, problem: HttpProblem) -> str:
        name, key_file = self._address.name, self._address.key_file
        what_to_do = {
            "unknown-key": f"if {name!r} is not your name in the trust file, say --name; otherwise "
            f"`nixfleet keys show {key_file} --operator {name}` prints what has to be added to it",
            "bad-signature": f"the trust file has another key for {name!r} than {key_file}",
            "role": "ask for the role operate in the trust file, or somebody who has it",
            "not-for-you": "expected an operator's key",
        }.get(problem.type.removeprefix(TYPE_PREFIX))
        return _said(problem) + (f": {what_to_do}" if what_to_do else "")


@asynccontextmanager
async def operating(address: Address, clock: Clock) -> AsyncIterator[OperatorClient]:
    """Yield the way of the operator of `address` to its control plane. Raises: Unusable."""
    _require_secrecy(address)
    key, tls = load_key(address.key_file), _tls(address)
    key_id = operator_key_id(address.name)
    async with signed_client(address.url, key_id, key, clock, tls=tls) as client:
        yield OperatorClient(client, address)


def _require_secrecy(address: Address) -> None:
    parts = urlsplit(address.url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
        raise Unusable(f"expected https://HOST:PORT with nothing after it, found {address.url!r}")
    is_open = parts.scheme == "http" and not is_loopback(parts.hostname)
    if is_open and not address.is_plain_http_permitted:
        raise Unusable(
            f"{address.url} is plain HTTP to another machine: expected https://, or --plain-http"
        )


def _tls(address: Address) -> SSLContext | bool:
    file = address.ca_certificate_file
    try:
        return True if file is None else create_default_context(cafile=str(file))
    except OSError as error:
        raise Unusable(f"{file}: expected certificates in PEM: {error}") from error


def _said(problem: HttpProblem) -> str:
    return ": ".join(filter(None, (problem.title, problem.detail)))
