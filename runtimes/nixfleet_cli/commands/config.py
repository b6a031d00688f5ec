"""`nixfleet config`: what a configuration comes to, or everything that is wrong with it. Starts nothing."""

import os
from pathlib import Path

import click

from nixfleet_agent.config import AGENT
from nixfleet_cli.shared.failures import Findings
from nixfleet_control_plane.config import CONTROL_PLANE
from nixfleet_runtime.config.check import check_config
from nixfleet_runtime.documents.problems import problem_report


@click.group()
def config() -> None:
    """The configuration of an agent or of a control plane."""


@config.command()
@click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def check(file: Path) -> None:
    """Show every option of the configuration in FILE, its value, and where that comes from.

    Looks at what starting would look at, with your rights: run it as the user that will run the process.

    Exit codes: 0 it can be used; 1 it cannot, and every problem; 2 no such FILE.
    """
    lines, problems = check_config(file, os.environ, (AGENT, CONTROL_PLANE))
    if problems:
        raise Findings(problem_report(str(file), problems))
    for line in lines:
        click.echo(line)
