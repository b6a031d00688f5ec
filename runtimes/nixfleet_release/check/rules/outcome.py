"""Rules about combinations of statements: channels have hosts, edges have no cycles, settings do not clash."""

from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import HealthCheck
from nixfleet_release.check.rules.names import scope_path
from nixfleet_release.check.settings import check_name, settings_of
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, at, is_touched, listed, unknown
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.merge import Scope, ScopeKind, scopes_of
from nixfleet_state_machine.scopes.one_line import one_line


def members(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse a fleet, or a channel, without hosts."""
    if "hosts" in broken:
        return
    if not fleet.hosts:
        yield Problem("hosts", "an empty fleet", "at least one host", "none")
    populated = {host.channel for host in fleet.hosts.values()}
    if (
        populated <= fleet.channels.keys()
    ):  # otherwise a host with an unknown channel may belong to the empty one
        for name in fleet.channels.keys() - populated:
            yield Problem(at("channels", name), "an empty channel", "at least one host", "none")


def budget_members(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse budgets whose selector selects no host, and a second budget with an equal selector."""
    seen: dict[str, str] = {}
    for index, budget in enumerate(fleet.budgets):
        path = at(at("budgets", index), "selector")
        if is_touched(path, broken):
            continue
        text = one_line(budget.selector.expression)
        if not meant(budget.selector.expression, fleet.hosts):
            yield Problem(
                path, "selects no host", "a selector that selects at least one host", text
            )
        if text in seen:
            yield Problem(
                path, "a second budget for this selector", "one", f"{text} in {seen[text]}"
            )
        seen.setdefault(text, at("budgets", index))


def cross_channel_edges(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse host edges between channels, because a rollout has only the hosts of its channel."""
    for index, edge in enumerate(fleet.edges):
        ends = (edge.gates, edge.gated)
        if any(
            host not in fleet.hosts or at(at("hosts", host), "channel") in broken for host in ends
        ):
            continue
        gates, gated = (fleet.hosts[host].channel for host in ends)
        if gates != gated:
            yield Problem(
                at("edges", index),
                "connects hosts of two channels",
                "two hosts of the same channel (use channel_edges to order channels)",
                f"{edge.gates} in {gates}, {edge.gated} in {gated}",
            )


def cycles(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse cycles of edges: all hosts or channels in a cycle would wait for ever."""
    for table, edges, known in (
        ("edges", fleet.edges, fleet.hosts.keys()),
        ("channel_edges", fleet.channel_edges, fleet.channels.keys()),
    ):
        index_of = {
            (edge.gates, edge.gated): index
            for index, edge in reversed(tuple(enumerate(edges)))
            if {edge.gates, edge.gated} <= known
        }
        for cycle in find_cycles(index_of.keys()):
            closing = index_of[cycle[-2], cycle[-1]]
            yield Problem(at(table, closing), "a cycle", "no cycle", " → ".join(cycle))


def find_cycles(edges: Collection[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Return cycles such that removing the last edge of each leaves no cycle.

    Each cycle begins and ends with its alphabetically first name; each name gates the next one.
    """
    left, cycles = set(edges), list[tuple[str, ...]]()
    while cycle := _a_cycle(left):
        left.remove((cycle[-2], cycle[-1]))
        cycles.append(cycle)
    return tuple(sorted(cycles))


def clashes(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse two tags of one host that declare the same setting, because neither takes precedence."""
    hosts: dict[tuple[str, tuple[Scope, ...]], list[str]] = {}
    settings = settings_of(fleet, None)
    for hostname, host in fleet.hosts.items():
        for clash in settings.clashes(hostname, host):
            hosts.setdefault((clash.key, clash.scopes), []).append(hostname)
    for (key, scopes), names in hosts.items():
        if len(set(scopes)) == len(scopes):  # otherwise `framework_checks` reports it
            yield Problem(
                f"{scope_path(scopes[-1])}.{key}",
                "declared by two tags of one host",
                "one such tag per host",
                f"{', '.join(map(str, scopes))} on {listed(names)}",
            )


def framework_checks(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse a health check with the same name as the check of a framework of its channel."""
    for channel, frameworks in fleet.frameworks.items():
        scope = Scope(ScopeKind.CHANNEL, channel)
        declared = fleet.health_checks.get(scope, FrozenMap[str, HealthCheck]())
        for framework in frameworks:
            if check_name(framework) in declared:
                path = at(at(scope_path(scope), "health_checks"), check_name(framework))
                found = f"the framework {framework} with a check of that name"
                yield Problem(path, "duplicate name in one scope", "a different name", found)


def refinements(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse settings of a framework in a scope where no host is required to satisfy it."""
    known = frozenset(name for declared in fleet.frameworks.values() for name in declared)
    held = {
        (scope, framework)
        for hostname, host in fleet.hosts.items()
        for scope in scopes_of(hostname, host)
        for framework in fleet.frameworks_of(host.channel)
    }
    for scope, declared in fleet.compliance.items():
        for framework in declared:
            path = at(at(scope_path(scope), "compliance"), framework)
            if framework not in known:
                yield unknown(path, "framework", framework, known)
            elif (scope, framework) not in held and scope.kind is not ScopeKind.CHANNEL:
                expected = "a framework that the channel of a host declares"
                yield Problem(path, "applies to no host", expected, f"no such host in {scope}")


def _a_cycle(edges: Collection[tuple[str, str]]) -> tuple[str, ...]:
    graph = TopologicalSorter[str]()
    for gates, gated in sorted(edges):
        graph.add(gated, gates)
    try:
        graph.prepare()
    except CycleError as error:
        found: list[str] = error.args[1][1:]
        first = found.index(min(found))
        return (*found[first:], *found[:first], found[first])
    return ()
