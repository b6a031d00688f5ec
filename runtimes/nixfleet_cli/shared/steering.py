"""Windows, freezes and guards of a declaration, in words: for `nixfleet fleet check` and `fleet explain`."""

from collections.abc import Iterator
from pathlib import Path

from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import Selector
from nixfleet_release import FleetDeclaration
from nixfleet_release.check.outlook import course_of
from nixfleet_runtime.documents.problems import Problem
from nixfleet_runtime.documents.tables import read_toml
from nixfleet_state_machine.planner.guards.words import declared_words
from nixfleet_state_machine.planner.holds.words import entry_words
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.one_line import one_line
from nixfleet_state_machine.shards.shard_map import ShardMap


def calendar_words(declared: FleetDeclaration) -> Iterator[tuple[str, str]]:
    """Yield each entry of the calendar: its name, and whom it allows or freezes when."""
    for entry in declared.calendar:
        who = "all" if entry.selector is None else one_line(entry.selector.expression)
        yield entry.name, entry_words(entry.entry(Selector(all=True)), who)


def steering_of(declared: FleetDeclaration, hostname: str) -> Iterator[str]:
    """Yield a line for each entry of the calendar that selects the host, and for each guard of its wave.

    Who is in a wave with a limit is known with a ref alone: then the guards of every wave are named.
    """
    host = declared.hosts[hostname]
    for (name, text), entry in zip(calendar_words(declared), declared.calendar, strict=True):
        selector = entry.selector
        if selector is None or meant(selector.expression, {hostname: host}):
            yield f"calendar {name}: {text}"
    if declared.is_disabled(hostname):
        return
    policy = declared.policies[declared.channels[host.channel].rollout_policy]
    for index, wave in enumerate(course_of(declared, host.channel).waves):
        if policy.rotates or hostname in wave.hosts:
            yield from (
                f"wave {index} begins when: {guard}" for guard in declared_words(wave.guards)
            )


def shards_in(file: Path) -> ShardMap:
    """Return the shards in a control plane's configuration, by their channels alone. Raises: Findings, Unusable."""
    content = read_toml(file)
    if isinstance(content, Problem):
        raise Unusable(str(content))
    channels_of: dict[str, list[str]] = {}
    shards = content.get("shards", {})
    for name, shard in (shards if isinstance(shards, dict) else {"": shards}).items():
        channels = shard.get("channels", []) if isinstance(shard, dict) else None
        if not name or not isinstance(channels, list) or not all(map(_is_text, channels)):
            raise Findings(f"{file}: shards: expected tables [shards.NAME] with a list of channels")
        channels_of[name] = [str(channel) for channel in channels]
    try:
        return ShardMap.of(channels_of)
    except InvalidValue as error:
        raise Findings(*(f"{file}: shards: {problem}" for problem in error.problems)) from error


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def judge_names(file: Path) -> frozenset[str]:
    """Return the names of the judges in a control plane's configuration. Nothing else of it is looked at.

    Raises: Findings, Unusable.
    """
    content = read_toml(file)
    if isinstance(content, Problem):
        raise Unusable(str(content))
    judges = content.get("judges", {})
    if not isinstance(judges, dict):
        raise Findings(f"{file}: judges: expected tables [judges.NAME], found {judges!r}")
    return frozenset(judges)
