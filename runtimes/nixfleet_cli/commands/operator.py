"""`nixfleet operator`: what an operator asks of a control plane over the network. docs/cli.md shows each.

Lists are fetched page by page and shown as they come. For people they are tables; elsewhere a line has its cells
between tabs; with --json it is one JSON object, as the control plane spells it.
"""

import getpass
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click
import orjson
from rich.console import Console
from rich.table import Table

from nixfleet_cli.shared.operator_client import Address, OperatorClient, Page, operating
from nixfleet_control_plane.history.narration import short
from nixfleet_proto.codec import format_time
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.commands import (
    CLEARANCE,
    REASON,
    RETIREMENT,
    ClearanceBody,
    ReasonBody,
    RetirementBody,
)
from nixfleet_runtime.http.listings import (
    DEFERRAL_PAGE,
    HOST_EXPLAINED,
    HOST_PAGE,
    LOG_PAGE,
    ROLLOUT_PAGE,
    HostExplained,
    ListedDeferral,
    ListedHost,
    ListedRollout,
    ListedRow,
)
from nixfleet_runtime.kernel.clock import SystemClock

P = TypeVar("P", bound=Page)
Cells = Sequence[str]
_PAYLOAD_LENGTH_MAX = 100


@click.group()
def operator() -> None:
    """Look at a fleet, and stop it or let it go on, over the network.

    Every request is signed with your key. What you command is in the log with your name and your reason.

    Exit codes: 0 done; 1 refused, and what to do; 2 no answer, or the command line made no sense.
    """


class _Session:
    """Who asks whom, and how the answer is to be shown."""

    def __init__(self, address: Address, as_json: bool) -> None:
        self._address = address
        self._as_json = as_json

    def command(self, path: str, body: bytes, done: str) -> None:
        """Have it done, and say so."""

        async def ask(client: OperatorClient) -> None:
            await client.command(path, body)

        self._run(ask)
        self.show_object({"done": done}, done)

    def list(
        self,
        path: str,
        coder: Coder[P],
        items: Callable[[P], Sequence[Any]],
        cells: Callable[[Any], Cells],
        header: Cells,
        after: str | None = None,
        is_wanted: Callable[[Any], bool] = lambda _: True,
    ) -> None:
        """Show a list, page by page."""

        async def ask(client: OperatorClient) -> None:
            async for page in client.pages(path, coder, after):
                wanted = [item for item in items(page) if is_wanted(item)]
                if self._as_json:
                    for item in wanted:
                        click.echo(orjson.dumps(_spelt(coder, item)))
                else:
                    _show_table(header, [cells(item) for item in wanted])

        self._run(ask)

    def read(self, path: str, coder: Coder[Any], told: Callable[[Any], str]) -> None:
        """Show one thing."""

        async def ask(client: OperatorClient) -> None:
            value = await client.read(path, coder)
            self.show_object(coder.to_json(value), told(value))

        self._run(ask)

    def show_object(self, value: JsonValue, told: str) -> None:
        """Show one thing, as JSON or in words."""
        click.echo(orjson.dumps(value) if self._as_json else told)

    def _run(self, ask: Callable[[OperatorClient], Awaitable[None]]) -> None:
        async def main() -> None:
            async with operating(self._address, SystemClock()) as client:
                await ask(client)

        anyio.run(main)


def _asks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say who asks whom, and itself the session that they make."""

    @wraps(command)
    def asking(
        url: str | None,
        key_file: Path | None,
        name: str | None,
        ca_certificate_file: Path | None,
        plain_http: bool,
        as_json: bool,
        **rest: object,
    ) -> None:
        if url is None or key_file is None:
            missing = "--url" if url is None else "--key"
            variable = "NIXFLEET_OPERATOR_" + missing.removeprefix("--").upper()
            raise click.UsageError(f"expected {missing}, or {variable}")
        whom = name or getpass.getuser()
        address = Address(url, whom, key_file, ca_certificate_file, plain_http)
        command(_Session(address, as_json), **rest)

    for option in reversed(_OPTIONS):
        asking = option(asking)
    return asking


_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option(
        "--url",
        metavar="URL",
        envvar="NIXFLEET_OPERATOR_URL",
        show_envvar=True,
        help="The control plane, https://HOST:PORT.",
    ),
    click.option(
        "--key",
        "key_file",
        metavar="FILE",
        type=_FILE,
        envvar="NIXFLEET_OPERATOR_KEY",
        show_envvar=True,
        help="Your private key.",
    ),
    click.option(
        "--name",
        metavar="NAME",
        envvar="NIXFLEET_OPERATOR_NAME",
        show_envvar=True,
        help="Your name in the trust file; if not given, the one you are logged in by.",
    ),
    click.option(
        "--ca-certificate",
        "ca_certificate_file",
        metavar="FILE",
        type=_FILE,
        envvar="NIXFLEET_OPERATOR_CA_CERTIFICATE",
        show_envvar=True,
        help="Who may vouch for the control plane, PEM.",
    ),
    click.option("--plain-http", is_flag=True, help="Permit http:// to another machine."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object a line."),
)
_reason = click.option("--reason", metavar="TEXT", required=True, help="Why; it is in the log.")


@operator.command()
@click.argument("scope", metavar="SCOPE")
@_reason
@_asks
def pause(session: _Session, scope: str, reason: str) -> None:
    """Let nothing of SCOPE be dispatched: a channel, or a rollout (CHANNEL@REF)."""
    body = REASON.encode(ReasonBody(reason))
    session.command(_scope_path(scope, "/pause"), body, f"{scope} is paused")


@operator.command()
@click.argument("scope", metavar="SCOPE")
@_reason
@_asks
def resume(session: _Session, scope: str, reason: str) -> None:
    """Take the pause of SCOPE back: a channel, or a rollout (CHANNEL@REF)."""
    body = REASON.encode(ReasonBody(reason))
    session.command(_scope_path(scope, "/resume"), body, f"{scope} goes on")


@operator.command()
@click.argument("rollout", metavar="ROLLOUT")
@_reason
@click.option("--excuse", metavar="HOST", multiple=True, help="A host to go on without; repeat it.")
@_asks
def clear(session: _Session, rollout: str, reason: str, excuse: tuple[str, ...]) -> None:
    """Let the halted ROLLOUT go on without the hosts that failed or reverted.

    With --excuse, without those named: all that failed must be among them.
    """
    body = CLEARANCE.encode(ClearanceBody(reason, excuse))
    session.command(paths.rollout_path(rollout, "/clear"), body, f"{rollout} goes on")


@operator.command()
@click.argument("channel", metavar="CHANNEL")
@click.argument("closure", metavar="CLOSURE")
@_reason
@_asks
def retire(session: _Session, channel: str, closure: str, reason: str) -> None:
    """Retire the quarantine of CLOSURE: let CHANNEL get it again."""
    body = RETIREMENT.encode(RetirementBody(closure, reason))
    path = paths.channel_path(channel, "/quarantines/retire")
    session.command(path, body, f"{channel} may get {closure} again")


@operator.command()
@click.argument("host", metavar="HOST")
@_asks
def explain(session: _Session, host: str) -> None:
    """Show every gate that holds HOST, in each rollout that it waits in."""
    session.read(paths.host_path(host, "/explain"), HOST_EXPLAINED, _told_explanation)


@operator.command()
@_asks
def rollouts(session: _Session) -> None:
    """List every rollout, oldest first."""
    header = ("rollout", "state", "wave", "opened", "excused")
    session.list(paths.ROLLOUTS, ROLLOUT_PAGE, lambda page: page.rollouts, _rollout_cells, header)


@operator.command()
@click.option("--rollout", metavar="ID", help="Only in this rollout.")
@click.option("--state", metavar="STATE", help="Only those that are, say, Failed.")
@_asks
def hosts(session: _Session, rollout: str | None, state: str | None) -> None:
    """List how every host stands in every rollout, by rollout and name."""

    def is_wanted(host: ListedHost) -> bool:
        return rollout in (None, host.rollout_id) and state in (None, host.state)

    header = ("rollout", "host", "state", "target", "runs")
    session.list(
        paths.HOSTS, HOST_PAGE, lambda page: page.hosts, _host_cells, header, is_wanted=is_wanted
    )


@operator.command()
@_asks
def deferrals(session: _Session) -> None:
    """List who waits, for which gate, why and since when."""
    header = ("rollout", "host", "since", "gate", "reason")
    session.list(
        paths.DEFERRALS, DEFERRAL_PAGE, lambda page: page.deferrals, _deferral_cells, header
    )


@operator.command()
@click.argument("rollout", metavar="ROLLOUT")
@click.option("--after", metavar="SEQ", type=click.IntRange(min=0), help="Only later rows.")
@_asks
def events(session: _Session, rollout: str, after: int | None) -> None:
    """List the rows of the log that are about ROLLOUT, oldest first."""
    path = paths.rollout_path(rollout, "/events")
    header = ("row", "at", "host", "kind", "what")
    begin = None if after is None else str(after)
    session.list(path, LOG_PAGE, lambda page: page.events, _row_cells, header, begin)


def _scope_path(scope: str, then: str) -> str:
    if "@" in scope:
        return paths.rollout_path(scope, then)
    return paths.channel_path(scope, then)


def _told_explanation(explained: HostExplained) -> str:
    if not explained.rollouts:
        return f"{explained.hostname} waits in no rollout"
    lines: list[str] = []
    for rollout in explained.rollouts:
        held = "waits" if rollout.gates else "is next: nothing holds it"
        lines.append(f"{rollout.rollout_id}: {explained.hostname} {held}")
        for gate in rollout.gates:
            detail = f" ({gate.detail})" if gate.detail else ""
            lines.append(f"  {gate.gate}: {gate.reason}{detail}")
    return "\n".join(lines)


def _rollout_cells(rollout: ListedRollout) -> Cells:
    excused = ", ".join(rollout.excused_hosts)
    wave, opened = str(rollout.current_wave), format_time(rollout.opened_at)
    return rollout.rollout_id, rollout.state, wave, opened, excused


def _host_cells(host: ListedHost) -> Cells:
    runs = "" if host.current_closure is None else short(host.current_closure)
    return host.rollout_id, host.hostname, host.state, short(host.target_closure), runs


def _deferral_cells(waiting: ListedDeferral) -> Cells:
    since = format_time(waiting.since)
    return waiting.rollout_id, waiting.hostname, since, waiting.gate, waiting.reason


def _row_cells(row: ListedRow) -> Cells:
    payload = orjson.dumps(dict(row.payload), default=dict).decode()
    what = payload if len(payload) <= _PAYLOAD_LENGTH_MAX else f"{payload[:_PAYLOAD_LENGTH_MAX]}…"
    return str(row.seq), format_time(row.ts), row.host or "", row.kind, what


def _spelt(coder: Coder[Any], item: object) -> JsonValue:
    """An item as it stands in its page."""
    spelt: JsonValue = coder.spelling.converter.unstructure(item)
    return spelt


def _show_table(header: Cells, rows: Sequence[Cells]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table(*header, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)
