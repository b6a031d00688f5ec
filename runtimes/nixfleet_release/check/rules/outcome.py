"""What a declaration comes to: channels with hosts, orders that can be kept, no rivals for one name."""

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
    if populated <= fleet.channels.keys():  # else it may be that a host was meant to be there
        for name in fleet.channels.keys() - populated:
            yield Problem(at("channels", name), "an empty channel", "at least one host", "none")


def budget_members(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse budgets that protect nobody, and a second one with an equal selector."""
    seen: dict[str, str] = {}
    for index, budget in enumerate(fleet.budgets):
        path = at(at("budgets", index), "selector")
        if is_touched(path, broken):
            continue
        text = one_line(budget.selector.expression)
        if not meant(budget.selector.expression, fleet.hosts):
            yield Problem(path, "protects nobody", "a selector that means a host", text)
        if text in seen:
            yield Problem(
                path, "already has a budget", "one per selector", f"{text} in {seen[text]}"
            )
        seen.setdefault(text, at("budgets", index))


def cross_channel_edges(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse host edges between channels: a rollout knows nothing of another's hosts."""
    for index, edge in enumerate(fleet.edges):
        ends = (edge.gates, edge.gated)
        if any(it not in fleet.hosts or at(at("hosts", it), "channel") in broken for it in ends):
            continue
        gates, gated = (fleet.hosts[it].channel for it in ends)
        if gates != gated:
            yield Problem(
                at("edges", index),
                "leads from one channel to another",
                "two hosts of one channel (channels are ordered by channel_edges)",
                f"{edge.gates} in {gates}, {edge.gated} in {gated}",
            )


def cycles(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse edges that lead back to where they began: everyone on the way would wait forever."""
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
            yield Problem(at(table, closing), "a cycle", "an order", " → ".join(cycle))


def find_cycles(edges: Collection[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Return cycles such that no other is left without the last edge of each.

    Each goes from the first of its names, by way of who waits for it, back to that name.
    """
    left, cycles = set(edges), list[tuple[str, ...]]()
    while cycle := _a_cycle(left):
        left.remove((cycle[-2], cycle[-1]))
        cycles.append(cycle)
    return tuple(sorted(cycles))


def clashes(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse two tags of one host that declare one thing: which of them counts would be a guess."""
    hosts: dict[tuple[str, tuple[Scope, ...]], list[str]] = {}
    settings = settings_of(fleet, None)
    for hostname, host in fleet.hosts.items():
        for clash in settings.clashes(hostname, host):
            hosts.setdefault((clash.key, clash.scopes), []).append(hostname)
    for (key, scopes), names in hosts.items():
        if len(set(scopes)) == len(scopes):  # else it is one of `framework_checks`
            yield Problem(
                f"{scope_path(scopes[-1])}.{key}",
                "two tags of one host declare it",
                "one tag of each host to do so",
                f"{', '.join(map(str, scopes))} on {listed(names)}",
            )


def framework_checks(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse a health check with the name of one that a framework of the same channel comes to."""
    for channel, frameworks in fleet.frameworks.items():
        scope = Scope(ScopeKind.CHANNEL, channel)
        declared = fleet.health_checks.get(scope, FrozenMap[str, HealthCheck]())
        for framework in frameworks:
            if check_name(framework) in declared:
                path = at(at(scope_path(scope), "health_checks"), check_name(framework))
                found = f"the framework {framework} with a check of that name"
                yield Problem(path, "duplicate name in one scope", "a name of its own", found)


def refinements(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse to say how a framework counts where no host is held to it."""
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
                yield Problem(path, "is for nobody", expected, f"no such host in {scope}")


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
