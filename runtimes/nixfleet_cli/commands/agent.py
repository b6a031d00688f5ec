"""`nixfleet agent`: the agent of one host, as a process."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nixfleet_cli.shared.clock_option import clock_option
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_runtime.kernel.clock import Clock

if TYPE_CHECKING:  # It needs the libraries of the extra `http`, and --help does not.
    from nixfleet_agent.config import AgentConfig

config_option = click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="The agent's configuration (TOML).",
)
"""Gives a command the option --config, as `file`."""


@group()
def agent() -> None:
    """Run the agent of a host.

    It pulls dispatches from the control plane, verifies them, switches closures and reports facts.
    """


@agent.command()
@config_option
@clock_option
def run(file: Path, clock: Clock) -> None:
    """Run the agent until SIGTERM or SIGINT.

    It starts and works while the control plane is down: its facts wait in the journal. Logs JSON lines to standard
    error.

    Exit codes: 0 stopped in order, and every fact is in the journal; 1 it cannot run on this machine as it is; 2 FILE,
    or a file that it names, cannot be used.
    """
    import anyio

    from nixfleet_agent.main import run_agent
    from nixfleet_cli.shared.logging_setup import log_to_stderr

    config = loaded_config(file)
    log_to_stderr(config.log.level)
    try:
        anyio.run(run_agent, config, clock)
    except Exception as error:
        raise _ending(error) from error


def loaded_config(file: Path) -> "AgentConfig":
    """Return the agent's configuration in `file`. Raises: Unusable, with every problem."""
    from nixfleet_agent.config import load_agent_config
    from nixfleet_runtime.config.options import ConfigError

    try:
        return load_agent_config(file, os.environ)
    except ConfigError as error:
        raise Unusable(*lines_of(error)) from error


def _ending(error: Exception) -> Exception:
    """Return the error to end with, if `error` is not a bug: task groups wrap what went wrong."""
    from nixfleet_agent.activation.activator import NoRunningClosure
    from nixfleet_proto.codec import DecodeError
    from nixfleet_proto.signing import InsecureKeyFile, MalformedKeyFile
    from nixfleet_runtime.storage.instance_lock import DatabaseInUse
    from nixfleet_runtime.storage.sqlite import NotOurDatabase, SchemaRefused

    found = (DatabaseInUse, NoRunningClosure)
    unusable = (
        *found,
        DecodeError,
        InsecureKeyFile,
        MalformedKeyFile,
        NotOurDatabase,
        OSError,
        SchemaRefused,
        sqlite3.Error,
    )
    causes = list(_causes_of(error))
    lines = [line for cause in causes for line in lines_of(cause)]
    if all(isinstance(cause, found) for cause in causes):
        return Findings(*lines)
    return Unusable(*lines) if all(isinstance(cause, unusable) for cause in causes) else error


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes_of(each)
    else:
        yield error
