"""`nixfleet control-plane`: the control plane as a process."""

import os
from pathlib import Path

import click

from nixfleet_cli.shared.clock_option import clock_option
from nixfleet_cli.shared.failures import Unusable
from nixfleet_cli.shared.logging_setup import log_to_stderr
from nixfleet_control_plane.config import load_control_plane_config
from nixfleet_control_plane.main import CannotStart, run_control_plane
from nixfleet_runtime.config.options import ConfigError
from nixfleet_runtime.kernel.clock import Clock


@click.group("control-plane")
def control_plane() -> None:
    """The side that decides which host may go when."""


@control_plane.command()
@click.option(
    "--config",
    "config_file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Its configuration (TOML); docs/configuration.md has every option.",
)
@click.option(
    "--url-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the URL there once it can be reached: for port 0.",
)
@clock_option
def run(config_file: Path, url_file: Path | None, clock: Clock) -> None:
    """Run a control plane until SIGTERM or SIGINT.

    Prints one line with its URL when it can be reached. What it says of itself after that are lines of JSON on
    standard error.

    Exit codes: 0 stopped in order; 2 the configuration, or what it names, cannot be used.
    """

    def on_listening(url: str) -> None:
        if url_file is not None:
            _write(url_file, f"{url}\n")
        click.echo(f"control plane: {url}")

    try:
        config = load_control_plane_config(config_file, os.environ)
        log_to_stderr(config.log.level)
        run_control_plane(config, clock, on_listening)
    except (ConfigError, CannotStart) as error:
        raise Unusable(str(error)) from error


def _write(path: Path, text: str) -> None:
    """Whole or not at all: somebody may wait for it."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.replace(path)
