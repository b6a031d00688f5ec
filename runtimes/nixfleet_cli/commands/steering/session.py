"""What the modules of `nixfleet operator` share: one operator, one control plane, and how answers are shown."""

import getpass
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from nixfleet_cli.shared.arguments import load_key, nonblank
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.output import Output, Row, printing
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.steering.approval import Approval, Decision, SignedApproval
from nixfleet_runtime.documents.problems import closest
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.listings import (
    HOST_PAGE,
    RELEASE_STANDING,
    ROLLOUT_PAGE,
    ListedHost,
    ListedRollout,
)
from nixfleet_runtime.kernel.clock import SystemClock

if TYPE_CHECKING:  # It needs the libraries of the extra `http`, and --help does not.
    from nixfleet_cli.shared.operator_client import Address, OperatorClient, Page

P = TypeVar("P", bound="Page")
T = TypeVar("T")
_IS_PREVIEW = f"{__name__}.is_preview"


class Session:
    """One operator and one control plane, and how answers are shown."""

    def __init__(self, address: "Address", output: Output) -> None:
        self._address = address
        self.output = output

    @property
    def address(self) -> "Address":
        """The control plane's address and the operator's identity."""
        return self._address

    @property
    def operator_name(self) -> str:
        """The name that the requests are signed by."""
        return self._address.name

    def key(self) -> SigningKey:
        """Return the operator's key, to sign something with that is relayed. Raises: Findings."""
        return load_key(self._address.key_file)

    def command(self, path: str, body: bytes, value: object, done: str) -> None:
        """Have a command carried out, and say so; with --preview, say what it would do."""
        if self.is_preview:
            self.preview(path, body)
            return

        async def send(client: "OperatorClient") -> None:
            await client.command(path, body)

        self._run(send)
        self.output.show(value, [done])

    @property
    def is_preview(self) -> bool:
        """Whether nothing is to be carried out: `--preview` was given."""
        return bool(click.get_current_context().meta.get(_IS_PREVIEW, False))

    def preview(self, path: str, body: bytes) -> None:
        """Say what a command would do. path, body: as it is sent; of a statement, what is stated."""
        from nixfleet_runtime.http.previews import PREVIEW, PREVIEW_BODY, PreviewBody

        meant = PreviewBody(path, FrozenMap(json.loads(body)))
        found = self.ask(paths.PREVIEW, PREVIEW_BODY.encode(meant), PREVIEW)
        self.output.show(PREVIEW.to_json(found), found.sentences)

    def ask(self, path: str, body: bytes, coder: Coder[T]) -> T:
        """Have a command carried out, and return the answer."""
        answers: list[T] = []

        async def send(client: "OperatorClient") -> None:
            answers.append(await client.ask(path, body, coder))

        self._run(send)
        return answers[0]

    def signed(
        self, rollout_id: RolloutId, wave: int, manifest_hash: str, decision: Decision, reason: str
    ) -> SignedApproval:
        """Return the operator's statement on a wave, signed with the operator's key."""
        from nixfleet_cli.shared.arguments import load_key
        from nixfleet_proto.signing import sign_approval

        now = SystemClock().now().replace(microsecond=0)
        who = self._address.name
        statement = Approval(rollout_id, wave, manifest_hash, who, decision, reason, now)
        return sign_approval(statement, load_key(self._address.key_file))

    def list(
        self,
        path: str,
        coder: Coder[P],
        items: Callable[[P], Sequence[T]],
        cells: Callable[[T], Row],
        header: Row,
        *,
        after: str | None = None,
        is_wanted: Callable[[T], bool] = lambda _: True,
    ) -> None:
        """Show a list, page by page."""

        async def show(client: "OperatorClient") -> None:
            async for page in client.pages(path, coder, after):
                wanted = [item for item in items(page) if is_wanted(item)]
                values = map(coder.spelling.converter.unstructure, wanted)
                if wanted:
                    self.output.rows(values, map(cells, wanted), header)

        self._run(show)

    def read(self, path: str, coder: Coder[T]) -> T:
        """Return what is at `path`."""
        answers: list[T] = []

        async def ask(client: "OperatorClient") -> None:
            answers.append(await client.read(path, coder))

        self._run(ask)
        return answers[0]

    def all(self, path: str, coder: Coder[P], items: Callable[[P], Sequence[T]]) -> Sequence[T]:
        """Return a whole list."""
        found: list[T] = []

        async def fetch(client: "OperatorClient") -> None:
            async for page in client.pages(path, coder):
                found.extend(items(page))

        self._run(fetch)
        return found

    def rollouts(self) -> Sequence[ListedRollout]:
        """Return every rollout."""
        return self.all(paths.ROLLOUTS, ROLLOUT_PAGE, lambda page: page.rollouts)

    def current_rollout(self, name: str) -> str:
        """Return the current rollout of the channel `name`; `name` itself if it is a rollout, or no known channel."""
        if "@" in name:
            return name
        standing = self.read(paths.RELEASES, RELEASE_STANDING)
        return next((it.rollout_id for it in standing.channels if it.channel == name), name)

    def hosts(self) -> Sequence[ListedHost]:
        """Return every host of every rollout."""
        return self.all(paths.HOSTS, HOST_PAGE, lambda page: page.hosts)

    def _run(self, ask: "Callable[[OperatorClient], Awaitable[None]]") -> None:
        import anyio

        from nixfleet_cli.shared.operator_client import operating

        async def main() -> None:
            async with operating(self._address, SystemClock()) as client:
                await ask(client)

        anyio.run(main)


def asks(shape: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options for address, key and name, and --json, to a command; it is called with a session made of them.

    shape: what is printed as JSON.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @printing(shape)
        @wraps(command)
        def asking(
            output: Output,
            url: str,
            key_file: Path,
            name: str | None,
            ca_certificate_file: Path | None,
            plain_http: bool,
            **rest: object,
        ) -> None:
            from nixfleet_cli.shared.operator_client import Address

            who = name or getpass.getuser()
            address = Address(url, who, key_file, ca_certificate_file, plain_http)
            command(Session(address, output), **rest)

        for option in reversed(_OPTIONS):
            asking = option(asking)
        return asking

    return decorated


_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option(
        "--url",
        metavar="URL",
        envvar="NIXFLEET_OPERATOR_URL",
        show_envvar=True,
        required=True,
        help="The control plane, https://HOST:PORT; or several, separated by commas.",
    ),
    click.option(
        "--key",
        "key_file",
        metavar="FILE",
        type=_FILE,
        envvar="NIXFLEET_OPERATOR_KEY",
        show_envvar=True,
        required=True,
        help="Your private key.",
    ),
    click.option(
        "--name",
        metavar="NAME",
        envvar="NIXFLEET_OPERATOR_NAME",
        show_envvar=True,
        help="Your name in the trust file; default: your login name.",
    ),
    click.option(
        "--ca-certificate",
        "ca_certificate_file",
        metavar="FILE",
        type=_FILE,
        envvar="NIXFLEET_OPERATOR_CA_CERTIFICATE",
        show_envvar=True,
        help="CA certificate for the control plane (PEM).",
    ),
    click.option("--plain-http", is_flag=True, help="Permit http:// to another machine."),
)


_reason = click.option(
    "--reason",
    metavar="TEXT",
    required=True,
    callback=nonblank,
    help="Why; recorded in the log.",
)


def _note_preview(context: click.Context, _option: click.Parameter, is_given: bool) -> None:
    context.meta[_IS_PREVIEW] = is_given


def reason_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --reason, as `reason`, and --preview, of which `Session.command` knows."""
    preview = click.option(
        "--preview",
        is_flag=True,
        expose_value=False,
        callback=_note_preview,
        help="Say what it would do, and do nothing. With --json: one object with sentences, refused and what follows.",
    )
    return _reason(preview(command))


def rollout_ids(session: Session) -> set[str]:
    """Return the ids of all rollouts, for a suggestion."""
    return {str(each.rollout_id) for each in session.rollouts()}


def suggesting_scope(refused: Findings, scope: str, rollouts: Sequence[ListedRollout]) -> Findings:
    """Return the refusal of a command about a scope, with the nearest scope of the same kind.

    Never one that holds more: who misspells a rollout does not mean its channel.
    """
    is_rollout = "@" in scope
    known = {str(it.rollout_id) if is_rollout else it.channel for it in rollouts}
    return refused if ":" in scope else suggesting(refused, scope, known)


def suggesting(refused: Findings, name: str, known: Collection[str]) -> Findings:
    """Return the refusal, with the nearest of the known names when `name` is none of them."""
    meant = None if name in known else closest(name, known)
    if meant is None:
        return refused
    *lines, last = refused.lines
    return Findings(*lines, f"{last}; did you mean {meant}?")
