"""The `nixfleet` command: every command with its heading and first sentence. None is imported until it is called."""

from contextlib import suppress
from typing import Final

import click

from nixfleet_cli.shared.commands import HELP_OPTIONS, Lazy, Root

_AT: Final = "nixfleet_cli.commands"
_SEE, _DECLARE, _RELEASE, _RUN = "See", "Declare", "Release", "Run"
_OPERATE, _KEYS, _TEST = "Operate", "Keys and trust", "Test"

COMMANDS: Final = {
    "demo": Lazy(_SEE, "nixfleet_cli.demo.command:demo", "Show a story on a small fleet."),
    "status": Lazy(_SEE, f"{_AT}.status:status", "Show rollouts and what holds their hosts."),
    "watch": Lazy(_SEE, "nixfleet_cli.watch.command:watch", "Follow a rollout as it goes."),
    "log": Lazy(_SEE, f"{_AT}.log:log", "Read and check a control plane's log."),
    "graph": Lazy(_SEE, f"{_AT}.graph:graph", "Draw the host and rollout state machines."),
    "fleet": Lazy(_DECLARE, f"{_AT}.fleet:fleet", "Check and explain a fleet declaration."),
    "release": Lazy(_RELEASE, f"{_AT}.release:release", "Build, compare and check releases."),
    "control-plane": Lazy(_RUN, f"{_AT}.control_plane:control_plane", "Run a control plane."),
    "agent": Lazy(_RUN, f"{_AT}.agent:agent", "Prepare and run the agent of a host."),
    "notify": Lazy(
        _RUN, f"{_AT}.notify:notify", "Tell others what happens: by webhooks and programs."
    ),
    "enroll": Lazy(_RUN, f"{_AT}.enroll:enroll", "Enroll this host with its control plane."),
    "config": Lazy(_RUN, f"{_AT}.config:config", "Check a configuration file."),
    "db": Lazy(_RUN, f"{_AT}.db:db", "Upgrade and copy the files of a control plane or an agent."),
    "evidence": Lazy(_RUN, f"{_AT}.evidence:evidence", "Sign and check compliance evidence."),
    "openapi": Lazy(_RUN, f"{_AT}.openapi:openapi", "Print the OpenAPI document of the HTTP API."),
    "units": Lazy(_RUN, f"{_AT}.machines.units:units", "Print the unit of a service for systemd."),
    "operator": Lazy(
        _OPERATE, f"{_AT}.operator:operator", "Inspect and command a fleet over the network."
    ),
    "ui": Lazy(_OPERATE, f"{_AT}.steering.ui:ui", "Open a local page for a fleet."),
    "keys": Lazy(_KEYS, f"{_AT}.keys:keys", "Make and show keys."),
    "trust": Lazy(_KEYS, f"{_AT}.trust:trust", "Make, change and check the trust file."),
    "token": Lazy(_KEYS, f"{_AT}.token:token", "Make bootstrap tokens for new hosts."),
    "secrets": Lazy(_KEYS, f"{_AT}.secrets:secrets", "Seal secrets to several public keys."),
    "simulate": Lazy(_TEST, f"{_AT}.simulate:simulate", "Run simulated fleets under faults."),
    "conformance": Lazy(
        _TEST, f"{_AT}.conformance:conformance", "Check or record conformance vectors."
    ),
}


def _show_version(context: click.Context, _option: click.Parameter, is_given: bool) -> None:
    if not is_given or context.resilient_parsing:
        return
    import nixfleet

    click.echo(f"nixfleet {nixfleet.__version__}")
    with suppress(ImportError):  # Without their extras there are no formats to name.
        from nixfleet_agent.journal.journal_format import JOURNAL_FORMAT
        from nixfleet_control_plane.store.database_format import DATABASE_FORMAT

        for file_format in (DATABASE_FORMAT, JOURNAL_FORMAT):
            click.echo(
                f"{file_format.kind}: writes version {file_format.version}, reads 1 and later"
            )
    context.exit()


@click.group(cls=Root, commands=COMMANDS, context_settings=HELP_OPTIONS)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version, and those of the files that it writes, and exit.",
)
def main() -> None:
    """Roll out signed releases to a fleet of machines.

    Exit codes, for every command: 0 success; 1 invalid input or a refusal; 2 usage error, or a file or service that
    cannot be used.

    With --json a failure is on standard output too: the last object has error, with exitCode, message and details.

    Times are in UTC. Closures are shown with the first 8 characters of their hash. Text from elsewhere is shown with
    control and invisible characters escaped (\\xNN, \\uNNNN).
    """
