"""`nixfleet ui`: a page for a fleet, served on this machine alone, that signs with the operator's key."""

import os
import shlex
import signal
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.clock_option import clock_option
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Unusable, lines_of
from nixfleet_cli.shared.output import show_lines
from nixfleet_runtime.kernel.clock import Clock

if TYPE_CHECKING:  # It needs the libraries of the extra `ui`, and --help does not.
    from nixfleet_ui.notifier import Notifier
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
@click.option(
    "--notify-config",
    "notify_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration of a notifier on this machine: the page says which of its hooks need somebody.",
)
@click.option("--no-browser", is_flag=True, help="Open no browser; show which file to open.")
@clock_option
@asks("one object with file and address")
def ui(
    session: Session,
    port: int,
    read_only: bool,
    notify_file: Path | None,
    no_browser: bool,
    clock: Clock,
) -> None:
    """Open a local page for a fleet.

    A process on 127.0.0.1 serves the page until ^C, and signs what it asks with your key. The browser is given a file
    that only you can read; the file leads to the page, with a secret that no command line shows.

    Exit codes: 0 ended by ^C or SIGTERM; 2 the key, the address, the port or FILE cannot be used.
    """
    import anyio

    from nixfleet_ui.notifier import no_notifier

    notifier = no_notifier if notify_file is None else notifier_of(notify_file)
    anyio.run(_serve, session, port, read_only, no_browser, clock, notifier)


async def _serve(
    session: Session,
    port: int,
    read_only: bool,
    no_browser: bool,
    clock: Clock,
    notifier: "Notifier",
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
            async with serving(operator, upstream, clock, version, listening, notifier) as served:
                _show(session, served)
                if not no_browser:
                    await anyio.to_thread.run_sync(open_in_browser, served.file)
                async for _ in signals:
                    return


def notifier_of(file: Path) -> "Notifier":
    """Return what reads the files of the notifier that `file` configures. Raises: Unusable."""
    from nixfleet_notify.config import load_notify_config
    from nixfleet_notify.files.stored import NotifierFiles, UnusableFiles
    from nixfleet_notify.trouble import troubles
    from nixfleet_runtime.config.options import ConfigError
    from nixfleet_ui.notifier import NotifierNeed, NotifierStanding

    try:
        config = load_notify_config(file, os.environ)
    except ConfigError as error:
        raise Unusable(*lines_of(error)) from error
    files = NotifierFiles(config.files.directory)

    def standing() -> NotifierStanding:
        try:
            found = tuple(troubles(files, config.hooks))
        except (OSError, UnusableFiles) as error:
            return NotifierStanding(is_read=True, problem=f"{error}")
        needs = (
            NotifierNeed(
                it.hook,
                it.text,
                it.answer,
                it.dead_letters,
                shlex.join(_retry(file, it.hook, has_dead=it.dead_letters > 0)),
                it.problem,
                it.since,
            )
            for it in found
        )
        return NotifierStanding(is_read=True, needs=tuple(needs))

    return standing


def _retry(file: Path, hook: str, *, has_dead: bool) -> list[str]:
    """Return the command that lets a hook try again, from any directory."""
    command = ["nixfleet", "notify", "retry", "--config", f"{file.absolute()}", "--hook", hook]
    return [*command, "--all-dead"] if has_dead else command


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
