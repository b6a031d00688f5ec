"""`nixfleet agent`: the agent of one host, as a process."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import anyio
import click

from nixfleet_agent.activation.activator import NoRunningClosure
from nixfleet_agent.config import AgentConfig, load_agent_config
from nixfleet_agent.main import run_agent
from nixfleet_cli.shared.clock_option import clock_option
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.logging_setup import log_to_stderr
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.signing import InsecureKeyFile, MalformedKeyFile
from nixfleet_runtime.config.options import ConfigError
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.storage.instance_lock import DatabaseInUse
from nixfleet_runtime.storage.sqlite import NotOurDatabase, SchemaTooNew

config_option = click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="The agent's configuration, TOML.",
)
"""Gives a command the option --config, as `file`."""


_UNUSABLE = (
    DecodeError,
    InsecureKeyFile,
    DatabaseInUse,
    MalformedKeyFile,
    NoRunningClosure,
    NotOurDatabase,
    OSError,
    SchemaTooNew,
    sqlite3.Error,
)


@click.group()
def agent() -> None:
    """The agent of one host."""


@agent.command()
@config_option
@clock_option
def run(file: Path, clock: Clock) -> None:
    """Run the agent until SIGTERM or SIGINT, with its log on standard error.

    It starts and works while the control plane is down: what it has to say waits in its journal.

    Exit codes: 0 told to stop, and everything is in the journal; 1 it cannot run on this machine as it is;
    2 FILE, or a file that it names, cannot be used.
    """
    config = loaded_config(file)
    log_to_stderr(config.log.level)
    try:
        anyio.run(run_agent, config, clock)
    except Exception as error:
        raise _ending(error) from error


def loaded_config(file: Path) -> AgentConfig:
    """Return the agent's configuration in `file`. Raises: Unusable, with every problem."""
    try:
        return load_agent_config(file, os.environ)
    except ConfigError as error:
        raise Unusable(str(error)) from error


def _ending(error: Exception) -> Exception:
    """Return what the command ends with, if `error` is not a bug: task groups wrap what went wrong."""
    causes = list(_causes_of(error))
    told = "\n".join(map(str, causes))
    if all(isinstance(cause, DatabaseInUse | NoRunningClosure) for cause in causes):
        return Findings(told)
    return Unusable(told) if all(isinstance(cause, _UNUSABLE) for cause in causes) else error


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes_of(each)
    else:
        yield error
