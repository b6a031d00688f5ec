"""The `nixfleet` command: the door to every group of commands. docs/cli.md shows each with an example."""

import click

from nixfleet_cli.agent import agent
from nixfleet_cli.config import config
from nixfleet_cli.conformance import conformance
from nixfleet_cli.control_plane import control_plane
from nixfleet_cli.demo.command import demo
from nixfleet_cli.enroll import enroll
from nixfleet_cli.evidence import evidence
from nixfleet_cli.fleet import fleet
from nixfleet_cli.graph import graph
from nixfleet_cli.keys import keys
from nixfleet_cli.log import log
from nixfleet_cli.openapi import openapi
from nixfleet_cli.operator import operator
from nixfleet_cli.release import release
from nixfleet_cli.secrets import secrets
from nixfleet_cli.simulate import simulate
from nixfleet_cli.status import status
from nixfleet_cli.token import token
from nixfleet_cli.trust import trust


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
