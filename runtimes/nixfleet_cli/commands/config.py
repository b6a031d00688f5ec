"""`nixfleet config`: the effective configuration, or everything that is wrong with it. Starts nothing."""

import os
from pathlib import Path

import click

from nixfleet_agent.config import AGENT
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, lines_of
from nixfleet_cli.shared.output import Output, printing
from nixfleet_control_plane.config import CONTROL_PLANE
from nixfleet_notify.config import NOTIFY
from nixfleet_runtime.config.check import check_config, side_of
from nixfleet_runtime.config.options import ConfigError, load_content
from nixfleet_runtime.documents.problems import Problem
from nixfleet_runtime.documents.tables import read_toml

_SIDES = (AGENT, CONTROL_PLANE, NOTIFY)


@group()
def config() -> None:
    """Check a configuration file."""


@config.command()
@click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@printing("one object with side and options; of each path, value and source")
def check(output: Output, file: Path) -> None:
    """Show the effective configuration of FILE, or its problems.

    FILE is the configuration (TOML) of an agent, a control plane or a notifier. Shows every option with its value and
    source: the file, an environment variable, or the default. Examines the files that starting would, with your
    permissions: run it as the user that will run the process.

    Exit codes: 0 it can be used; 1 it cannot, with every problem; 2 no such FILE.
    """
    lines, problems = check_config(file, os.environ, _SIDES)
    if problems:
        raise Findings(*lines_of(ConfigError(file, problems)))
    output.show(_value(file) if output.as_json else None, lines)


def _value(file: Path) -> object:
    content = read_toml(file)
    assert not isinstance(content, Problem)
    side = side_of(content, _SIDES)
    assert side is not None
    options = load_content(file, content, os.environ, side.read).options
    return {
        "side": side.name,
        "options": [
            {"path": each.path, "value": each.value, "source": each.source} for each in options
        ],
    }
