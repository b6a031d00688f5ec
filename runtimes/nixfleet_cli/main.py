"""The `nixfleet` command: the door to every group of commands. docs/cli.md shows each with an example."""

import click

from nixfleet_cli.commands.agent import agent
from nixfleet_cli.commands.config import config
from nixfleet_cli.commands.conformance import conformance
from nixfleet_cli.commands.control_plane import control_plane
from nixfleet_cli.commands.enroll import enroll
from nixfleet_cli.commands.evidence import evidence
from nixfleet_cli.commands.fleet import fleet
from nixfleet_cli.commands.graph import graph
from nixfleet_cli.commands.keys import keys
from nixfleet_cli.commands.log import log
from nixfleet_cli.commands.openapi import openapi
from nixfleet_cli.commands.operator import operator
from nixfleet_cli.commands.release import release
from nixfleet_cli.commands.secrets import secrets
from nixfleet_cli.commands.simulate import simulate
from nixfleet_cli.commands.status import status
from nixfleet_cli.commands.token import token
from nixfleet_cli.commands.trust import trust
from nixfleet_cli.demo.command import demo


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nixfleet")
def main() -> None:
    """Keep a fleet of machines on the closures that a signed declaration names."""


main.add_command(demo)
main.add_command(agent)
main.add_command(config)
main.add_command(enroll)
main.add_command(keys)
main.add_command(token)
main.add_command(control_plane)
main.add_command(status)
main.add_command(log)
main.add_command(fleet)
main.add_command(release)
main.add_command(trust)
main.add_command(evidence)
main.add_command(secrets)
main.add_command(graph)
main.add_command(conformance)
main.add_command(openapi)
main.add_command(operator)
main.add_command(simulate)
