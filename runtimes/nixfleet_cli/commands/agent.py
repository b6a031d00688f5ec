"""`nixfleet agent`: prepares and runs the agent of one host."""

import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nixfleet_cli.shared.clock_option import clock_option
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, printing
from nixfleet_runtime.kernel.clock import Clock

if TYPE_CHECKING:  # They need the libraries of the extra `http`, and --help does not.
    from nixfleet_agent.config import AgentConfig
    from nixfleet_agent.preparation import PreparedAgent

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
    """Prepare and run the agent of a host.

    It pulls dispatches from the control plane, verifies them, switches closures and reports facts.
    """


@agent.command()
@config_option
@clock_option
def run(file: Path, clock: Clock) -> None:
    """Run the agent until SIGTERM or SIGINT.

    It starts and works while the control plane is down: its facts wait in the journal. Logs JSON lines to standard
    error.

    Exit codes: 0 stopped in order, and every fact is in the journal; 1 it cannot run on this machine as it is,
    or its journal can be written no more; 2 FILE,
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


@agent.command()
@click.argument("directory", metavar="DIRECTORY", type=click.Path(path_type=Path))
@click.option(
    "--control-plane", "url", metavar="URL", required=True, help="The control plane's URL."
)
@click.option(
    "--trust",
    "trust_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The fleet's trust file.",
)
@click.option(
    "--closure",
    "tree",
    metavar="TREE",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory with what the machine runs now; its copy is the first closure.",
)
@click.option("--nixos", is_flag=True, help="The running NixOS system is the first closure.")
@click.option(
    "--hostname",
    metavar="NAME",
    default=socket.gethostname,
    show_default="the machine's",
    help="The host's name in the fleet.",
)
@printing("one object with config, closure, publicKey and fingerprint")
def init(
    output: Output,
    directory: Path,
    url: str,
    trust_file: Path,
    tree: Path | None,
    nixos: bool,
    hostname: str,
) -> None:
    """Prepare DIRECTORY for a new agent.

    Writes the agent's configuration and key, and selects the first closure: what a rollback returns to until a rollout
    has converged. One of --closure and --nixos is required. Overwrites nothing, and runs no switch script.

    Exit codes: 0 prepared; 1 DIRECTORY has an agent already, or a value is invalid; 2 a file cannot be read or written.
    """
    from nixfleet_agent.preparation import AlreadyPrepared, prepare_agent
    from nixfleet_cli.shared.arguments import load_trust
    from nixfleet_proto.signing import InsecureKeyFile, MalformedKeyFile
    from nixfleet_runtime.config.options import ConfigError
    from nixfleet_runtime.releases.closure_tree import UnfitClosure
    from nixfleet_runtime.releases.nar import (
        FileChangedWhileRead,
        InvalidClosureName,
        NotArchivable,
    )

    if (tree is None) != nixos:
        raise click.UsageError("expected one of --closure TREE and --nixos")
    load_trust(trust_file)
    try:
        prepared = prepare_agent(directory, hostname, url, trust_file, tree)
    except (AlreadyPrepared, ConfigError) as error:
        raise Findings(*lines_of(error)) from error
    except (InvalidClosureName, NotArchivable, UnfitClosure, FileChangedWhileRead) as error:
        raise Findings(f"{tree}: {error}") from error
    except (InsecureKeyFile, MalformedKeyFile) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error
    value = {
        "config": prepared.config,
        "closure": prepared.closure,
        "publicKey": prepared.key.key.public_key.public_key,
        "fingerprint": prepared.key.fingerprint,
    }
    output.show(value, _lines(prepared))


def _lines(prepared: "PreparedAgent") -> Iterator[str]:
    if prepared.closure is not None:
        yield f"closure      {prepared.closure}"
    yield f"public key   {prepared.key.key.public_key.public_key}"
    yield f"fingerprint  {prepared.key.fingerprint}"
    yield f"config       {prepared.config}"
    yield ""
    yield "Declare the host with this public key; or mint a token for this fingerprint, and put it at"
    yield f"  {prepared.token_file}"
    yield "Then run"
    yield f"  nixfleet agent run --config {prepared.config}"


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
    from nixfleet_runtime.config.plugins import PluginUnusable
    from nixfleet_runtime.kernel.write_failures import WritingEnded
    from nixfleet_runtime.storage.instance_lock import DatabaseInUse
    from nixfleet_runtime.storage.opening import UnusableDatabase

    found = (DatabaseInUse, NoRunningClosure, WritingEnded)
    unusable = (
        *found,
        DecodeError,
        InsecureKeyFile,
        MalformedKeyFile,
        OSError,
        UnusableDatabase,
        PluginUnusable,
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
