"""`nixfleet ui`: a page for a fleet, served on this machine alone, that signs with the operator's key."""

import signal
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.clock_option import clock_option
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Unusable
from nixfleet_cli.shared.output import show_lines
from nixfleet_runtime.kernel.clock import Clock

if TYPE_CHECKING:  # It needs the libraries of the extra `ui`, and --help does not.
    from nixfleet_ui.serving import Served

_PORT_MAX = 65_535


@command()
@click.option(
    "--port",
    type=click.IntRange(0, _PORT_MAX),
    default=0,
    metavar="N",
    help="Port on 127.0.0.1; default: any that is free.",
)
@click.option("--read-only", is_flag=True, help="Send no command and sign nothing: for a wall.")
@click.option("--no-browser", is_flag=True, help="Open no browser; show which file to open.")
@clock_option
@asks("one object with file and address")
def ui(session: Session, port: int, read_only: bool, no_browser: bool, clock: Clock) -> None:
    """Open a local page for a fleet.

    A process on 127.0.0.1 serves the page until ^C, and signs what it asks with your key. The browser is given a file
    that only you can read; the file leads to the page, with a secret that no command line shows.

    Exit codes: 0 ended by ^C or SIGTERM; 2 the key, the address or the port cannot be used.
    """
    import anyio

    anyio.run(_serve, session, port, read_only, no_browser, clock)


async def _serve(
    session: Session, port: int, read_only: bool, no_browser: bool, clock: Clock
) -> None:
    import anyio

    import nixfleet
    from nixfleet_cli.shared.operator_client import signing
    from nixfleet_ui.app import Operator
    from nixfleet_ui.serving import listening_on, serving

    address, key = session.address, session.key()
    operator = Operator(address.name, key, address.url, read_only)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with signing(address, key, clock) as upstream:
            try:
                listening = listening_on(port)
            except OSError as error:
                raise Unusable(f"port {port} of 127.0.0.1 cannot be used: {error}") from error
            version = nixfleet.__version__
            async with serving(operator, upstream, clock, version, listening) as served:
                _show(session, served)
                if not no_browser:
                    await anyio.to_thread.run_sync(open_in_browser, served.file)
                async for _ in signals:
                    return


def open_in_browser(file: Path) -> None:
    """Have the operator's browser open `file`. Its name is all that the browser's command line has."""
    webbrowser.open(file.as_uri())


def _show(session: Session, served: "Served") -> None:
    value = {"file": served.file, "address": served.admission.origin}
    if session.output.as_json:
        session.output.rows([value], (), ())  # now, and not when the command ends
        return
    show_lines(
        [
            f"page: {served.admission.origin}, until ^C",
            f"open it with this file, which leads there: {served.file}",
        ]
    )
