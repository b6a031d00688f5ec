"""`nixfleet control-plane`: the control plane as a process."""

import os
import re
from pathlib import Path

import click

from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.clock_option import clock_option
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import show_lines
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.storage.replaced_file import replace_file


@group("control-plane")
def control_plane() -> None:
    """Run a control plane.

    It decides when each host may switch. It holds no signing key.
    """


@control_plane.command()
@click.option(
    "--config",
    "config_file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Its configuration (TOML).",
)
@click.option(
    "--url-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the URL to FILE when ready; for port 0.",
)
@clock_option
def run(config_file: Path, url_file: Path | None, clock: Clock) -> None:
    """Run a control plane until SIGTERM or SIGINT.

    Prints one line with its URL when it accepts connections; logs JSON lines to standard error. `nixfleet config check`
    shows every option of the configuration.

    Exit codes: 0 stopped in order; 1 another process took the database over, or it can be written no more; 2 the
    configuration, or a file that it names, cannot be used.
    """
    # Imported here: it needs the libraries of the extra `http`, and --help does not.
    from nixfleet_cli.shared.logging_setup import log_to_stderr
    from nixfleet_control_plane.config import load_control_plane_config
    from nixfleet_control_plane.main import run_control_plane
    from nixfleet_control_plane.starting import CannotStart
    from nixfleet_runtime.config.options import ConfigError
    from nixfleet_runtime.kernel.write_failures import WritingEnded

    def on_listening(url: str) -> None:
        if url_file is not None:
            replace_file(url_file, f"{url}\n".encode())
        show_lines([f"control plane: {url}"])

    try:
        config = load_control_plane_config(config_file, os.environ)
        log_to_stderr(config.log.level)
        run_control_plane(config, clock, on_listening)
    except (ConfigError, CannotStart) as error:
        raise Unusable(*lines_of(error)) from error
    except WritingEnded as error:
        raise Findings(*lines_of(error)) from error


@control_plane.command()
def dashboard() -> None:
    """Print a dashboard for Grafana.

    JSON to import, with a panel for each metric of this version.

    Exit codes: 0 success.
    """
    import orjson

    from nixfleet_control_plane.observability.catalogue import catalogue
    from nixfleet_control_plane.observability.dashboard import dashboard as made

    click.echo(orjson.dumps(made(catalogue()), option=orjson.OPT_INDENT_2))


@control_plane.command()
@click.option(
    "--key",
    required=True,
    metavar="PUBLIC_KEY",
    type=arguments.public_key,
    help="The public half of the control plane's `key_file` for NATS, or a file with it.",
)
@click.option(
    "--store-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/nats"),
    show_default=True,
    help="Where the server keeps its buckets.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:4222",
    show_default=True,
    help="Where it listens.",
)
@click.option(
    "--account",
    metavar="NAME",
    default="FLEET",
    show_default=True,
    help="The account of the fleet.",
)
@click.option(
    "--tls",
    metavar="CERTIFICATE KEY",
    nargs=2,
    type=click.Path(path_type=Path),
    help="The files of the server's certificate and its key; connections then begin with TLS.",
)
def nats_server(
    key: TrustedKey, store_dir: Path, listen: str, account: str, tls: tuple[Path, Path] | None
) -> None:
    """Print a configuration of nats-server.

    With accounts, JetStream, and an auth callout that asks the control plane who may connect. It has no secret.

    Exit codes: 0 success; 2 LISTEN or NAME cannot be used.
    """
    from nixfleet_nats.server_config import ServerConfig, ServerTls

    host, _, port = listen.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise click.BadParameter(f"expected HOST:PORT, found {listen!r}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}", account):
        raise click.BadParameter(
            f"expected a name of letters, digits, '-' and '_', found {account!r}"
        )
    files = None if tls is None else ServerTls(*tls)
    click.echo(ServerConfig(key, store_dir, host, int(port), account, files).text(), nl=False)


@control_plane.command()
def rules() -> None:
    """Print alert rules for Prometheus.

    A file for `rule_files`, with the alerts that every fleet needs. `promtool check rules` reads it.

    Exit codes: 0 success.
    """
    from nixfleet_control_plane.observability.rules import rules_text

    click.echo(rules_text(), nl=False)
