"""`nixfleet fleet`: the declaring side. What is wrong with a declaration, or what it comes to."""

from collections.abc import Iterator
from pathlib import Path

import click

from nixfleet_cli.shared.arguments import now
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.fleet import FleetHost
from nixfleet_release import BudgetDeclaration, CheckedFleet, DeclarationError, import_fleet
from nixfleet_release import check as check_fleet
from nixfleet_release.check.staging import stage
from nixfleet_runtime.documents.problems import is_below, unknown
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.one_line import one_line
from nixfleet_state_machine.scopes.setting import explain as explain_all


@click.group()
def fleet() -> None:
    """The declaration of a fleet."""


@fleet.command()
@click.argument("file", metavar="FILE", type=click.Path(exists=True, path_type=Path))
def check(file: Path) -> None:
    """Check the declaration in FILE, TOML, or in all *.toml of a directory.

    Exit codes: 0 it can be released, and what it comes to; 1 every problem, with its path; 2 no such FILE.
    """
    try:
        checked = check_fleet(file, now=now())
    except DeclarationError as error:
        raise Findings(str(error)) from error
    for line in _summary(checked):
        click.echo(line)
    for warning in checked.warnings:
        click.echo(f"warning: {warning}", err=True)


@fleet.command()
@click.argument("host", metavar="HOST")
@click.argument("key", metavar="[KEY]", default="")
@click.option(
    "-f",
    "--fleet",
    "file",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    default=Path("fleet.toml"),
    show_default=True,
    help="The declaration: TOML, or a directory of it.",
)
def explain(host: str, key: str, file: Path) -> None:
    """Say what HOST lives by: every value, the scope it is from, and what it shadows.

    KEY is one of the keys that are shown without it, or the beginning of some: health_checks.
    Exit codes: 0 told; 1 the fleet has problems, or no such HOST or KEY; 2 no such FILE.
    """
    try:
        checked = check_fleet(file, now=now())
    except DeclarationError as error:
        raise Findings(str(error)) from error
    hosts = checked.declaration.hosts
    if host not in hosts:
        raise Findings(str(unknown("HOST", "host", host, hosts)))
    values = tuple(explain_all(checked.settings, host, hosts[host]))
    told = [it for it in values if not key or it.key == key or is_below(it.key, [key])]
    if key and not told:
        raise Findings(str(unknown("KEY", "key", key, {it.key for it in values})))
    if not key:
        click.echo(_host_line(host, hosts[host]))
    for value in told:
        click.echo(f"{value.key} = {value.value}")
        click.echo(f"    from {value.scope}")
        for shadowed in reversed(value.shadowed):
            click.echo(f"    shadows {shadowed.value} from {shadowed.scope}")


@fleet.command(name="import")
@click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the canonical bytes to this file, not to standard output.",
)
def import_(file: Path, out: Path | None) -> None:
    """Check the resolved fleet in FILE, JSON as a Nix evaluation writes it, and give its canonical bytes.

    Fields that are unknown here stay in them, and are warnings.
    Exit codes: 0 it is in order; 1 every problem, with its path; 2 FILE cannot be read, or OUT not written.
    """
    try:
        imported = import_fleet(file.read_bytes())
        if out is not None:
            out.write_bytes(imported.canonical)
    except DeclarationError as error:
        raise Findings(f"{file}: {error}") from error
    except OSError as error:
        raise Unusable(f"{error.filename}: {error.strerror}") from error
    for path in imported.unknown_fields:
        click.echo(f"warning: {path}: unknown field, kept as it is", err=True)
    if out is None:
        click.echo(imported.canonical, nl=False)


def _host_line(name: str, host: FleetHost) -> str:
    tags = ", ".join(sorted(set(host.tags))) or "none"
    return f"host {name}: channel {host.channel}, tags {tags}"


def _summary(checked: CheckedFleet) -> Iterator[str]:
    declared = checked.declaration
    yield (
        f"fleet {declared.name or '(without a name)'}: "
        f"{_count(len(declared.hosts), 'host')} in {_count(len(declared.channels), 'channel')}"
    )
    for channel in sorted(declared.channels):
        yield from _channel(checked, channel)
    for budget in declared.budgets:
        selected = budget.selector.expression
        members = _count(len(meant(selected, declared.hosts)), "host")
        yield f"budget {one_line(selected)}: {_limit(budget)} of {members} in flight"
    for edge in (*declared.edges, *declared.channel_edges):
        why = f" ({edge.reason})" if edge.reason else ""
        yield f"order: {edge.gates} before {edge.gated}{why}"
    checks = sum(map(len, checked.health_checks.values()))
    yield f"health checks: {checks}, over all hosts"
    for hostname, pin in sorted(checked.pins.items()):
        yield f"pinned: {hostname} to {pin.value.commit}, by {pin.scope}"


def _channel(checked: CheckedFleet, channel: str) -> Iterator[str]:
    declared = checked.declaration
    name = declared.channels[channel].rollout_policy
    policy = declared.policies[name]
    yield f"channel {channel}: policy {name}, on failure {policy.on_health_failure}"
    soaks = [wave.soak_minutes for wave in policy.waves] or [0]
    staged = stage(policy, declared.hosts_of(channel))
    for index, (hosts, minutes) in enumerate(zip(staged, soaks, strict=True)):
        yield f"  wave {index}, soak {minutes} min: {', '.join(hosts)}"


def _limit(budget: BudgetDeclaration) -> str:
    limits = []
    if budget.max_in_flight is not None:
        limits.append(str(budget.max_in_flight))
    if budget.max_in_flight_pct is not None:
        limits.append(f"{budget.max_in_flight_pct} %")
    return f"at most {' and '.join(limits)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
