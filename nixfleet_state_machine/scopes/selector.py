"""Plain selectors: which hosts one selects, and how it is written on one line.

Whether the names in a selector exist is checked where it is declared.
Source: docs/spec/declarations.md, Selectors.
"""

from collections.abc import Iterator, Mapping

from nixfleet_proto.fleet import FleetChannel, FleetHost, Selector

NOBODY = "nobody"  # the summary of a selector with no part given


def matches(selector: Selector, hostname: str, host: FleetHost) -> bool:
    """Return whether `selector` selects this host: at least one part is given, and all given parts hold."""
    if is_empty(selector):
        return False
    return (
        (not selector.hosts or hostname in selector.hosts)
        and (selector.channel is None or selector.channel == host.channel)
        and set(selector.tags) <= set(host.tags)
        and (not selector.tags_any or not set(selector.tags_any).isdisjoint(host.tags))
    )


def select(selector: Selector, hosts: Mapping[str, FleetHost]) -> tuple[str, ...]:
    """Return the names of the hosts that `selector` selects, sorted."""
    # Hosts given by name are looked up: searching a long list for each host of a fleet is quadratic.
    candidates = (set(selector.hosts) & hosts.keys()) if selector.hosts else hosts.keys()
    return tuple(sorted(name for name in candidates if matches(selector, name, hosts[name])))


def enabled_hosts(
    hosts: Mapping[str, FleetHost], channels: Mapping[str, FleetChannel]
) -> dict[str, FleetHost]:
    """Return the hosts that take part in rollouts: those that are enabled, as is their channel."""
    return {
        name: host
        for name, host in hosts.items()
        if host.enabled and (host.channel not in channels or channels[host.channel].enabled)
    }


def is_empty(selector: Selector) -> bool:
    """Return whether no part of `selector` is given, so that it matches no host."""
    return selector == Selector()


def canonical(selector: Selector) -> Selector:
    """Return `selector` in canonical form: lists sorted, each name once.

    Selectors that differ only in order and duplicates are equal in this form.
    """
    return Selector(
        all=selector.all,
        hosts=_as_set(selector.hosts),
        channel=selector.channel,
        tags=_as_set(selector.tags),
        tags_any=_as_set(selector.tags_any),
    )


def summary(selector: Selector) -> str:
    """Return `selector` on one line, such as `channel:stable & tags_any:eu,us`.

    Two selectors have one summary exactly when they are equal in canonical form.
    """
    return " & ".join(_parts(canonical(selector))) or NOBODY


def _parts(selector: Selector) -> Iterator[str]:
    if selector.all:
        yield "all"
    if selector.channel is not None:
        yield f"channel:{selector.channel}"
    lists = {"hosts": selector.hosts, "tags": selector.tags, "tags_any": selector.tags_any}
    for part, names in lists.items():
        if names:
            yield f"{part}:{','.join(names)}"


def _as_set(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
