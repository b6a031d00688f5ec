"""Rules about names: which are valid, and that every reference exists.

Names are used in file names, URLs and canonical JSON, so they are plain ASCII without separators. A tag exists if a
host
has it: any other is a misspelling.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import assert_never

from nixfleet_proto.fleet import Edge
from nixfleet_proto.ids import is_channel_name
from nixfleet_proto.signing import read_public_key
from nixfleet_release.written.declaration import FleetDeclaration, SelectorDeclaration
from nixfleet_runtime.documents.problems import Problem, at, quoted, unknown
from nixfleet_state_machine.scopes.merge import Scope, ScopeKind

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")  # the characters of a host name, and `_`
HOST_NAME_LENGTH_MAX = 200
CHANNEL_NAME_LENGTH_MAX = 100
REF_LENGTH_MAX = 128
_NAME_EXPECTED = "letters, digits, '.', '_' and '-', with a letter or digit first"


def names(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse invalid names."""
    for path, name in _named(fleet):
        if not _NAME.fullmatch(name):
            yield Problem(path, "not a valid name", _NAME_EXPECTED, quoted(name))
    for channel in fleet.channels:
        if not is_channel_name(channel):
            path = at("channels", channel)
            yield Problem(path, "not a valid channel name", "[a-z0-9_-]+", quoted(channel))


def lengths(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse names that are too long for the files and URLs that they become part of.

    A host's name ends the name of its closure, after a hash of 52 characters; a channel and a ref make a file name.
    """
    named = (
        *((at("hosts", name), name, HOST_NAME_LENGTH_MAX) for name in fleet.hosts),
        *((at("channels", name), name, CHANNEL_NAME_LENGTH_MAX) for name in fleet.channels),
        *(
            (at(at(scope_path(scope), "pin"), "commit"), pin.commit, REF_LENGTH_MAX)
            for scope, pins in fleet.pins.items()
            for pin in pins.values()
        ),
    )
    for path, name, limit in named:
        if len(name) > limit:
            yield Problem(path, "too long", f"at most {limit} characters", f"{len(name)}")


def machines(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse host names that are the same machine elsewhere, and one public key for two hosts.

    DNS, and some file systems, ignore case and a final dot.
    """
    for first, name in _equal((name.rstrip(".").casefold(), name) for name in fleet.hosts):
        expected = "names that differ in more than case"
        path = at("hosts", name)
        yield Problem(path, f"the same machine as {first}", expected, f"{first} and {name}")
    declared = ((name, host.pubkey) for name, host in fleet.hosts.items() if host.pubkey)
    for first, name in _equal((_key_text(pubkey), name) for name, pubkey in declared):
        path, expected = at(at("hosts", name), "pubkey"), "a key of its own, made on the host"
        yield Problem(path, f"the same key as that of {first}", expected, f"{first} and {name}")


def references(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse references to hosts, tags, channels and policies that do not exist."""
    yield from _between_tables(fleet)
    yield from _of_scopes(fleet)
    known = {"host": fleet.hosts.keys(), "channel": fleet.channels.keys(), "tag": tags_of(fleet)}
    for path, selector in selectors(fleet):
        yield from _of_selector(path, selector, known)
    yield from _of_edges("edges", fleet.edges, "host", fleet.hosts.keys())
    yield from _of_edges("channel_edges", fleet.channel_edges, "channel", fleet.channels.keys())


def selectors(fleet: FleetDeclaration) -> Iterator[tuple[str, SelectorDeclaration]]:
    """Yield every selector of a fleet with its path."""
    for name, policy in fleet.policies.items():
        for index, wave in enumerate(policy.waves):
            if wave.selector is not None:
                yield at(wave_path(name, index), "selector"), wave.selector
    for index, budget in enumerate(fleet.budgets):
        yield at(at("budgets", index), "selector"), budget.selector
    for index, entry in enumerate(fleet.calendar):
        if entry.selector is not None:
            yield at(at("calendar", index), "selector"), entry.selector


def wave_path(policy: str, index: int) -> str:
    """Return the path of a policy's wave."""
    return at(at(at("policies", policy), "waves"), index)


def scope_path(scope: Scope) -> str:
    """Return the path of the table with a scope's declarations; the fleet's is the root."""
    match scope.kind:
        case ScopeKind.FLEET:
            return ""
        case ScopeKind.TAG:
            return at("tags", scope.name)
        case ScopeKind.CHANNEL:
            return at("channels", scope.name)
        case ScopeKind.HOST:
            return at("hosts", scope.name)
        case _:
            assert_never(scope.kind)


def tags_of(fleet: FleetDeclaration) -> frozenset[str]:
    """Return all tags of hosts."""
    return frozenset(tag for host in fleet.hosts.values() for tag in host.tags)


def _named(fleet: FleetDeclaration) -> Iterator[tuple[str, str]]:
    for name, host in fleet.hosts.items():
        path = at("hosts", name)
        yield path, name
        for index, tag in enumerate(host.tags):
            yield at(at(path, "tags"), index), tag
    for name in fleet.policies:
        yield at("policies", name), name
    for scope, checks in fleet.health_checks.items():
        for name in checks:
            yield at(at(scope_path(scope), "health_checks"), name), name
    for channel, frameworks in fleet.frameworks.items():
        for name in frameworks:
            yield at(at(at("channels", channel), "compliance"), name), name


def _equal(keyed: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the first name that has a key, with each later name that has it too."""
    groups: dict[str, list[str]] = {}
    for key, name in keyed:
        groups.setdefault(key, []).append(name)
    for first, *others in map(sorted, groups.values()):
        yield from ((first, other) for other in others)


def _key_text(pubkey: str) -> str:
    """Return a public key in one form, whichever it is written in."""
    key = read_public_key(pubkey)
    return pubkey if key is None else key.public_key


def _between_tables(fleet: FleetDeclaration) -> Iterator[Problem]:
    for name, host in fleet.hosts.items():
        if host.channel not in fleet.channels:
            path = at(at("hosts", name), "channel")
            yield unknown(path, "channel", host.channel, fleet.channels)
    for name, channel in fleet.channels.items():
        if channel.rollout_policy not in fleet.policies:
            path = at(at("channels", name), "policy")
            yield unknown(path, "policy", channel.rollout_policy, fleet.policies)


def _of_scopes(fleet: FleetDeclaration) -> Iterator[Problem]:
    known: Mapping[ScopeKind, Collection[str]] = {
        ScopeKind.FLEET: ("",),
        ScopeKind.TAG: tags_of(fleet),
        ScopeKind.CHANNEL: fleet.channels.keys(),
        ScopeKind.HOST: fleet.hosts.keys(),
    }
    for scope in {*fleet.health_checks, *fleet.compliance, *fleet.pins}:
        if scope.name not in known[scope.kind]:
            yield unknown(scope_path(scope), scope.kind.value, scope.name, known[scope.kind])


def _of_selector(
    path: str, selector: SelectorDeclaration, known: Mapping[str, Collection[str]]
) -> Iterator[Problem]:
    for mention, below in selector.mentioned:
        if mention.name not in known[mention.what]:
            yield unknown(path + below, mention.what, mention.name, known[mention.what])


def _of_edges(
    table: str, edges: tuple[Edge, ...], kind: str, known: Collection[str]
) -> Iterator[Problem]:
    for index, edge in enumerate(edges):
        path = at(table, index)
        for key, name in (("gates", edge.gates), ("gated", edge.gated)):
            if name not in known:
                yield unknown(at(path, key), kind, name, known)
