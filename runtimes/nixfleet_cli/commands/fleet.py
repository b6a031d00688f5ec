"""`nixfleet fleet`: checks a declaration, and explains its result."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from attrs import frozen

from nixfleet_cli.shared.arguments import load_trust, now
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, printing, warn
from nixfleet_cli.shared.policies import blast_radius_value
from nixfleet_cli.shared.steering import calendar_words, judge_names, shards_in, steering_of
from nixfleet_proto.codec import encode_health_checks
from nixfleet_proto.fleet import OnDrift
from nixfleet_release import (
    BudgetDeclaration,
    CheckedFleet,
    DeclarationError,
    FleetDeclaration,
    WaveLimit,
    import_fleet,
)
from nixfleet_release import check as check_fleet
from nixfleet_release.check.approvers import declared_approvals
from nixfleet_release.check.outlook import BlastRadius, blast_radius_of, course_of, slots_of
from nixfleet_release.check.rules.guards import unknown_judges
from nixfleet_release.check.rules.names import scope_path
from nixfleet_release.check.rules.shards import joined_shards
from nixfleet_release.publish.changes import terms_lines
from nixfleet_release.written.layers import Origin, origins
from nixfleet_runtime.documents.problems import Problem, at, is_below, unknown
from nixfleet_runtime.storage.regular_file import LARGE_FILE_BYTES_MAX, read_regular_file
from nixfleet_state_machine.planner.guards.words import declared_words
from nixfleet_state_machine.planner.pace.words import pace_words
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.merge import FLEET, scopes_of
from nixfleet_state_machine.scopes.one_line import one_line
from nixfleet_state_machine.scopes.selector import enabled_hosts
from nixfleet_state_machine.scopes.setting import Explained
from nixfleet_state_machine.scopes.setting import explain as explain_all


@group()
def fleet() -> None:
    """Check and explain a fleet declaration."""


@fleet.command()
@click.argument("file", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--ref",
    metavar="REF",
    help="Show whom waves with a limit take when REF is released.",
)
@click.option(
    "--config",
    "config_file",
    metavar="CONFIG",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A control plane's configuration (TOML): every judge that is asked must be one of its [judges.NAME], and no "
    "budget may be shared by channels of several [shards.NAME].",
)
@click.option(
    "--trust",
    "trust_file",
    metavar="TRUST",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The fleet's trust file: every wave must have enough operators of it who may approve.",
)
@printing(
    "one object with name, layers, hosts (channel, tags, enabled), channels (policy, enabled, onHealthFailure, "
    "onDrift, waves: soakMinutes, limit, count, allowedFailures, guards, hosts or null; deadlines: minutes and then, "
    "by stage; retry: attempts, backoffSeconds, factor; blastRadius: hosts, worst, tolerated, inFlight, or null), "
    "calendar (name and text), pinned and warnings"
)
def check(
    output: Output,
    file: Path,
    ref: str | None,
    config_file: Path | None,
    trust_file: Path | None,
) -> None:
    """Check the declaration in FILE and summarise it.

    FILE is a TOML file, or a directory whose *.toml files are read together; either may name layers. Waves with a limit
    take other hosts for each ref: without --ref, their hosts are counted and not named. Warnings go to standard error.

    Exit codes: 0 it can be released; 1 it cannot, with every problem and its place; 2 no such FILE.
    """
    checked = _checked(file)
    impossible: list[Problem] = []
    if config_file is not None:
        impossible += unknown_judges(checked.declaration, judge_names(config_file))
        impossible += joined_shards(checked.declaration, shards_in(config_file))
    if trust_file is not None:
        impossible += declared_approvals(checked.declaration, load_trust(trust_file))
    if impossible:
        raise Findings(*lines_of(DeclarationError(tuple(impossible))))
    output.show(_value(checked, ref), _summary(checked, ref))
    for warning in checked.warnings:
        warn(str(warning))


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
    help="The declaration: a TOML file or a directory.",
)
@printing(
    "one object with host, channel, tags, enabled, settings (key, value, scope, shadowed), steering (windows, freezes "
    "and guards in words) and origins (path, place, overrides)"
)
def explain(output: Output, host: str, key: str, file: Path) -> None:
    """Show HOST's effective settings and their scopes.

    Shows the windows and freezes that select HOST and the guards of its wave; then each value, the scope that it is
    from, and the values that it shadows. KEY selects one setting, or all below
    it, such as health_checks or compliance.nis2. For a declaration in layers, also shows which file and line declares
    each value that applies to HOST, and which earlier ones it overrides.

    Exit codes: 0 success; 1 the fleet has problems, or no such HOST or KEY; 2 no such FILE.
    """
    checked = _checked(file)
    hosts = checked.declaration.hosts
    if host not in hosts:
        raise Findings(str(unknown("HOST", "host", host, hosts)))
    values = tuple(explain_all(checked.settings, host, hosts[host]))
    selected = [each for each in values if not key or each.key == key or is_below(each.key, [key])]
    if key and not selected:
        raise Findings(str(unknown("KEY", "key", key, _keys_of(values))))
    steered = [] if key else list(steering_of(checked.declaration, host))
    is_enabled = not checked.declaration.is_disabled(host)
    declared = tuple(_origins(checked, host, key))
    heading = [] if key else [_host_line(checked.declaration, host)]
    output.show(
        {
            "host": host,
            "channel": hosts[host].channel,
            "tags": sorted(set(hosts[host].tags)),
            "enabled": is_enabled,
            "settings": list(map(_setting_value, selected)),
            "steering": steered,
            "origins": [
                {
                    "path": each.path,
                    "place": str(each.place),
                    "overrides": list(map(str, each.overridden)),
                }
                for each in declared
            ],
        },
        [
            *heading,
            *steered,
            *(line for each in selected for line in _setting_lines(each)),
            *(
                ()
                if checked.written is None or not checked.written.layers
                else _origin_lines(declared)
            ),
        ],
    )


def _origins(checked: CheckedFleet, hostname: str, key: str) -> Iterator[Origin]:
    """Yield where everything that applies to a host is declared; with `key`, the settings of its scopes below it."""
    if checked.written is None:
        return
    host = checked.declaration.hosts[hostname]
    scopes = scopes_of(hostname, host)
    tables = [scope_path(scope) for scope in scopes if scope != FLEET]
    if key:
        paths = [f"{table}.{key}" for table in tables] + [key]
    else:
        policy = checked.declaration.channels[host.channel].rollout_policy
        paths = ["health_checks", "compliance", *tables, at("policies", policy)]
    for path in paths:
        yield from origins(checked.written, path)


def _origin_lines(declared: Iterable[Origin]) -> Iterator[str]:
    yield "declared in layers:"
    for each in declared:
        earlier = "".join(f", overrides {place}" for place in reversed(each.overridden))
        yield f"    {each.path}: {each.place}{earlier}"


def _keys_of(values: Iterable[Explained]) -> set[str]:
    """Return every key that may be given: of a setting, or of several below it."""
    parts = [each.key.split(".") for each in values]
    return {".".join(steps[:count]) for steps in parts for count in range(1, len(steps) + 1)}


@fleet.command(name="import")
@click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write them; default: standard output.",
)
def import_(file: Path, out: Path | None) -> None:
    """Check a resolved fleet and print its canonical JSON.

    FILE is JSON as a Nix evaluation writes it. The canonical bytes (RFC 8785) are what a signature covers. Unknown
    fields are kept, and are warnings.

    Exit codes: 0 valid; 1 invalid, with every problem and its path; 2 FILE cannot be read, or OUT not written.
    """
    try:
        imported = import_fleet(read_regular_file(file, bytes_max=LARGE_FILE_BYTES_MAX))
        if out is not None:
            out.write_bytes(imported.canonical)
    except DeclarationError as error:
        raise Findings(*lines_of(error, file)) from error
    except OSError as error:
        raise Unusable(f"{error.filename}: {error.strerror}") from error
    for path in imported.unknown_fields:
        warn(f"{path}: unknown field, kept")
    for each in imported.without_effect:
        warn(each)
    if out is None:
        click.echo(imported.canonical, nl=False)


def _checked(file: Path) -> CheckedFleet:
    try:
        return check_fleet(file, now=now())
    except DeclarationError as error:
        raise Findings(*lines_of(error)) from error


def _setting_lines(setting: Explained) -> Iterator[str]:
    yield f"{setting.key} = {setting.value}"
    yield f"    from {setting.scope}"
    for shadowed in reversed(setting.shadowed):
        yield f"    shadows {shadowed.value} from {shadowed.scope}"


def _setting_value(setting: Explained) -> object:
    return {
        "key": setting.key,
        "value": setting.value,
        "scope": str(setting.scope),
        "shadowed": [
            {"value": each.value, "scope": str(each.scope)} for each in reversed(setting.shadowed)
        ],
    }


def _host_line(declared: FleetDeclaration, name: str) -> str:
    host = declared.hosts[name]
    tags = ", ".join(sorted(set(host.tags))) or "none"
    line = f"host {name}: channel {host.channel}, tags {tags}"
    if not declared.is_disabled(name):
        return line
    disabled = f"its channel {host.channel} is disabled" if host.enabled else "disabled"
    return f"{line}; {disabled}, so it is in no rollout"


@frozen
class _Wave:
    """A wave as it is shown. hosts: `None` where the ref that is not known decides who is in it."""

    soak_minutes: int
    limit: WaveLimit | None
    count: int
    allowed_failures: int
    guards: tuple[str, ...]
    hosts: tuple[str, ...] | None


def _waves(declared: FleetDeclaration, channel: str, ref: str | None) -> Iterator[_Wave]:
    policy = declared.policies[declared.channels[channel].rollout_policy]
    is_known = ref is not None or not policy.rotates
    if not declared.enabled_hosts_of(channel):
        return
    course = course_of(declared, channel, ref or "")
    for index, (wave, released) in enumerate(zip(policy.all_waves, course.waves, strict=True)):
        count = len(released.hosts)
        named = released.hosts if is_known else None
        guards = tuple(declared_words(released.guards))
        allowed = course.allowed_in(index)
        yield _Wave(wave.soak_minutes, wave.limit, count, allowed, guards, named)


def _blast_radius(declared: FleetDeclaration, channel: str, ref: str | None) -> BlastRadius | None:
    if not declared.enabled_hosts_of(channel):
        return None
    return blast_radius_of(course_of(declared, channel, ref or ""), slots_of(declared))


def _summary(checked: CheckedFleet, ref: str | None) -> Iterator[str]:
    declared = checked.declaration
    yield (
        f"fleet {declared.name or '(unnamed)'}: "
        f"{_count(len(declared.hosts), 'host')} in {_count(len(declared.channels), 'channel')}"
    )
    if checked.written is not None and checked.written.layers:
        overridden = sum(map(len, checked.written.places.overridden.values()))
        count = f"{_count(overridden, 'value')} overridden"
        yield f"layers, a later one overrides: {', '.join(checked.written.layers)}; {count}"
    disabled = sorted(filter(declared.is_disabled, declared.hosts))
    if disabled:
        yield f"disabled, so in no rollout: {', '.join(disabled)}"
    for channel in sorted(declared.channels):
        yield from _channel(declared, channel, ref)
    for budget in declared.budgets:
        selected = budget.selector.expression
        hosts = enabled_hosts(declared.hosts, declared.channels)
        members = _count(len(meant(selected, hosts)), "host")
        pace = pace_words(budget.ramp, budget.max_per_minute)
        yield f"budget {one_line(selected)}: {_limit(budget)} of {members} in flight{pace}"
    for name, text in calendar_words(declared):
        yield f"calendar {name}: {text}"
    for edge in (*declared.edges, *declared.channel_edges):
        why = f" ({edge.reason})" if edge.reason else ""
        yield f"order: {edge.gates} before {edge.gated}{why}"
    checks = sum(map(len, checked.health_checks.values()))
    yield f"health checks: {checks} over all hosts"
    for hostname, pin in sorted(checked.pins.items()):
        yield f"pinned: {hostname} to {pin.value.commit}, by {pin.scope}"


def _channel(declared: FleetDeclaration, channel: str, ref: str | None) -> Iterator[str]:
    name = declared.channels[channel].rollout_policy
    policy = declared.policies[name]
    if not declared.channels[channel].enabled:
        yield f"channel {channel}: disabled, nothing is released"
        return
    yield f"channel {channel}: policy {name}, on failure {policy.on_health_failure}"
    for index, wave in enumerate(_waves(declared, channel, ref)):
        limit = "" if wave.limit is None else f", limit {wave.limit}"
        if not wave.count:
            names = "left out, as earlier waves take all that it selects"
        else:
            names = "chosen by the ref" if wave.hosts is None else ", ".join(wave.hosts)
        count = _count(wave.count, "host")
        may_fail = f", {wave.allowed_failures} may fail" if wave.allowed_failures else ""
        yield f"  wave {index}, soak {wave.soak_minutes} min{limit}, {count}{may_fail}: {names}"
        for guard in wave.guards:
            yield f"    begins when: {guard}"
    yield from (f"  {line}" for line in terms_lines(policy.deadlines, policy.retry))
    if declared.channels[channel].on_drift is OnDrift.RESTORE:
        yield "  on drift: restore"
    worst = _blast_radius(declared, channel, ref)
    if worst is not None:
        yield f"  {worst}"


def _value(checked: CheckedFleet, ref: str | None) -> object:
    declared = checked.declaration
    return {
        "name": declared.name,
        "layers": [] if checked.written is None else list(checked.written.layers),
        "hosts": {
            name: {
                "channel": host.channel,
                "tags": sorted(set(host.tags)),
                "enabled": not declared.is_disabled(name),
            }
            for name, host in sorted(declared.hosts.items())
        },
        "channels": {
            name: _channel_value(declared, name, ref) for name in sorted(declared.channels)
        },
        "calendar": [{"name": name, "text": text} for name, text in calendar_words(declared)],
        "pinned": {
            hostname: {"commit": pin.value.commit, "scope": str(pin.scope)}
            for hostname, pin in sorted(checked.pins.items())
        },
        "warnings": list(map(str, checked.warnings)),
    }


def _channel_value(declared: FleetDeclaration, channel: str, ref: str | None) -> object:
    name = declared.channels[channel].rollout_policy
    policy = declared.policies[name]
    return {
        "policy": name,
        "enabled": declared.channels[channel].enabled,
        "onHealthFailure": policy.on_health_failure,
        "onDrift": declared.channels[channel].on_drift,
        "deadlines": {
            stage: {"minutes": deadline.minutes, "then": deadline.then}
            for stage, deadline in policy.deadlines.by_stage().items()
        },
        "retry": {
            "attempts": policy.retry.attempts,
            "backoffSeconds": policy.retry.backoff_seconds,
            "factor": policy.retry.factor,
        },
        "blastRadius": blast_radius_value(_blast_radius(declared, channel, ref)),
        "waves": [
            {
                "soakMinutes": wave.soak_minutes,
                "limit": None if wave.limit is None else str(wave.limit),
                "count": wave.count,
                "allowedFailures": wave.allowed_failures,
                "guards": list(wave.guards),
                "hosts": None if wave.hosts is None else list(wave.hosts),
            }
            for wave in _waves(declared, channel, ref)
        ],
    }


def _limit(budget: BudgetDeclaration) -> str:
    limits = []
    if budget.max_in_flight is not None:
        limits.append(str(budget.max_in_flight))
    if budget.max_in_flight_pct is not None:
        limits.append(f"{budget.max_in_flight_pct} %")
    return f"at most {' and '.join(limits)}" if limits else "any number"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@fleet.command(name="health-checks")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@printing("one object with directory and hosts")
def health_checks(output: Output, file: Path, directory: Path) -> None:
    """Write the health checks of the declaration in FILE.

    DIR gets a file HOST.json each, for closures that are built elsewhere and named with "release make --names": an
    image or a commit has it as etc/nixfleet/agent/health-checks.json. DIR is made if it does not exist.

    Exit codes: 0 written; 1 invalid, with every problem and its path; 2 FILE cannot be read, or DIR not written.
    """
    try:
        checks = check_fleet(file).health_checks
        directory.mkdir(parents=True, exist_ok=True)
        for host, of_host in sorted(checks.items()):
            (directory / f"{host}.json").write_bytes(encode_health_checks(of_host))
    except DeclarationError as error:
        raise Findings(*lines_of(error, file)) from error
    except OSError as error:
        raise Unusable(f"{error.filename}: {error.strerror}") from error
    value = {"directory": str(directory), "hosts": sorted(checks)}
    output.show(value, [f"{directory}: {len(checks)} files of health checks"])
