"""An operator's connection to a control plane: signed requests, and refusals with what to do about them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext
from typing import Final, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import anyio
import httpx2
from attrs import frozen

from nixfleet_cli.shared.arguments import load_key
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import note
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.config.base_url import base_urls, is_base_url
from nixfleet_runtime.config.sections import is_loopback
from nixfleet_runtime.http.client import HttpSender, NoAnswer, signed_client, tls_context
from nixfleet_runtime.http.headers import RETRY_AFTER
from nixfleet_runtime.http.listings import PAGE_LENGTH_MAX
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem, decode_problem
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.http.signing.refusal import SignedBeforeStart
from nixfleet_runtime.kernel.clock import Clock

RESTART_SECONDS_MAX: Final = 120
"""How long a request is repeated, newly signed, while the control plane refuses those signed before its start."""
PAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""How many bytes an answer may have: a page of hosts or of log rows, each with what hosts reported."""

_SIGNED_BEFORE_START: Final = f"{TYPE_PREFIX}{SignedBeforeStart.name}"


class Refused(Findings):
    """The control plane refused. kind: the name of the problem, such as `rollout-unknown`; empty if it gave none."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class Page(Protocol):
    """A page of a list."""

    @property
    def next(self) -> str | None:
        """What to ask for `after` it, `None` for the last page."""
        ...


P = TypeVar("P", bound=Page)
T = TypeVar("T")


@frozen
class Address:
    """The control plane's address and the operator's identity. url: or those of several, separated by commas."""

    url: str
    name: str
    key_file: Path
    ca_certificate_file: Path | None = None
    is_plain_http_permitted: bool = False


class Sends(Protocol):
    """What sends signed requests; `SignedClient` does."""

    async def send(self, method: str, path: str, body: bytes) -> httpx2.Response:
        """Return the answer. Raises: NoAnswer."""
        ...


class OperatorClient:
    """One operator's connection to one control plane. Raises: Refused, or Unusable without an answer.

    sleep: waits so many seconds.
    """

    def __init__(
        self,
        client: Sends,
        address: Address,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._client = client
        self._address = address
        self._sleep = sleep

    async def command(self, path: str, body: bytes) -> None:
        """Return when the control plane has carried it out and logged it."""
        await self._send("POST", path, body)

    async def ask(self, path: str, body: bytes, coder: Coder[T]) -> T:
        """As `command`, and return what the control plane answers."""
        return self._decoded(await self._send("POST", path, body), coder)

    async def read(self, path: str, coder: Coder[T]) -> T:
        """Return what is at `path`."""
        return self._decoded(await self._send("GET", path), coder)

    def _decoded(self, answer: httpx2.Response, coder: Coder[T]) -> T:
        try:
            return coder.decode(answer.content)
        except DecodeError as error:
            raise Unusable(
                f"{self._address.url} returned an answer that cannot be decoded: {error}"
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
        for second in range(RESTART_SECONDS_MAX + 1):
            try:
                answer = await self._client.send(method, path, body)
            except NoAnswer as error:
                url = self._address.url
                is_named = any(each in error.problem for each in base_urls(url))
                where = "" if is_named else f"no answer from {url}: "
                raise Unusable(f"{where}{error.problem}") from error
            if answer.is_success:
                return answer
            problem = decode_problem(answer.content, answer.status_code)
            if problem.type != _SIGNED_BEFORE_START or second == RESTART_SECONDS_MAX:
                raise self._failure(answer, problem)
            if second == 0:
                note(
                    f"{self._address.url} has just started: waiting until it takes signed requests"
                )
            await self._sleep(1.0)
        raise AssertionError("the last round returns or raises")

    def _failure(self, answer: httpx2.Response, problem: HttpProblem) -> Refused | Unusable:
        if answer.is_server_error:
            return Unusable(self._later(problem, answer.headers))
        return Refused(self._refused(problem), problem.type.removeprefix(TYPE_PREFIX))

    def _later(self, problem: HttpProblem, headers: Mapping[str, str]) -> str:
        seconds = headers.get(RETRY_AFTER)
        when = "" if seconds is None else f"; nothing was changed, try again in {seconds} s"
        return f"{self._address.url} is not available ({problem.status}): {_text(problem)}{when}"

    def _refused(self, problem: HttpProblem) -> str:
        name, key_file = self._address.name, self._address.key_file
        what_to_do = {
            "unknown-key": f"if {name!r} is not your name in the trust file, give it with --name; otherwise the trust "
            f"file has another key than {key_file} for it, or none: "
            f"`nixfleet keys show {key_file} --operator {name}` prints the line that has to be there",
            "role": "ask for the role operate in the trust file, or ask an operator who has it",
            "not-for-you": "expected an operator's key",
        }.get(problem.type.removeprefix(TYPE_PREFIX))
        return _text(problem) + (f": {what_to_do}" if what_to_do else "")


@asynccontextmanager
async def operating(address: Address, clock: Clock) -> AsyncIterator[OperatorClient]:
    """Yield a client of the control plane at `address`. Raises: Unusable."""
    async with signing(address, load_key(address.key_file), clock) as client:
        yield OperatorClient(client, address)


@asynccontextmanager
async def signing(address: Address, key: SigningKey, clock: Clock) -> AsyncIterator[HttpSender]:
    """Yield what sends requests to the control plane at `address`, signed by the operator's key. Raises: Unusable."""
    _require_secrecy(address)
    key_id, tls = operator_key_id(address.name), _tls(address)
    async with signed_client(
        address.url, key_id, key, clock, tls=tls, answer_bytes_max=PAGE_BYTES_MAX
    ) as client:
        yield client


def _require_secrecy(address: Address) -> None:
    urls = base_urls(address.url)
    if not urls:
        raise Unusable("expected https://HOST:PORT, found no address")
    for url in urls:
        if not is_base_url(url):
            raise Unusable(f"expected https://HOST:PORT with nothing after it, found {url!r}")
        parts = urlsplit(url)
        is_open = parts.scheme == "http" and not is_loopback(parts.hostname or "")
        if is_open and not address.is_plain_http_permitted:
            raise Unusable(
                f"{url} is plain HTTP to another machine: expected https://, or --plain-http"
            )


def _tls(address: Address) -> SSLContext | bool:
    file = address.ca_certificate_file
    try:
        return tls_context(file)
    except OSError as error:
        raise Unusable(f"{file}: expected certificates in PEM: {error}") from error


def _text(problem: HttpProblem) -> str:
    return ": ".join(filter(None, (problem.title, problem.detail)))
