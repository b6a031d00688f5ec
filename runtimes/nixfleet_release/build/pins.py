"""Applies pins to a release: a pinned channel points at its pin, a pinned host gets the closure built from it.

Closures of another commit are used unchanged: they contain their own health checks, which were signed with them.
Source: docs/spec/declarations.md, Scopes.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from nixfleet_proto.codec import DecodeError, decode_fleet
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_release.build.store_paths import read_store_paths
from nixfleet_release.check.checked import CheckedFleet
from nixfleet_release.check.settings import live_pins
from nixfleet_release.errors import DeclarationError
from nixfleet_runtime.documents.problems import Problem, at
from nixfleet_runtime.releases.directory import load_release
from nixfleet_state_machine.scopes.merge import ScopeKind


def pinned_refs(checked: CheckedFleet, now: datetime) -> dict[str, str]:
    """Return the pinned commit of each channel that is pinned as a whole at `now`."""
    pins = live_pins(checked.declaration.pins, now)
    return {
        scope.name: pin.commit
        for scope, own in pins.items()
        if scope.kind is ScopeKind.CHANNEL
        for pin in own.values()
    }


def pinned_elsewhere(checked: CheckedFleet, channel_ref: str) -> dict[str, str]:
    """Return, by host, the commits of the enabled hosts that are pinned to another commit than `channel_ref`."""
    commits = {
        hostname: pin.value.commit
        for hostname, pin in checked.pins.items()
        if not checked.declaration.is_disabled(hostname)
    }
    return {hostname: commit for hostname, commit in commits.items() if commit != channel_ref}


def closures_of_pinned(
    checked: CheckedFleet, channel_ref: str, built: Mapping[str, Mapping[str, str]]
) -> FrozenMap[str, str]:
    """Return the closures of the hosts that are pinned elsewhere, by host.

    built: the closures by host, by commit. Raises: DeclarationError, with every host that has none.
    """
    pinned = pinned_elsewhere(checked, channel_ref)
    problems = tuple(_without_closure(checked, pinned, built))
    if problems:
        raise DeclarationError(problems)
    return FrozenMap({hostname: built[commit][hostname] for hostname, commit in pinned.items()})


def read_built(path: Path) -> Mapping[str, str]:
    """Return closures by host, from a release directory or a JSON file of store paths.

    Raises: DeclarationError, NotARelease, IncompleteRelease, OSError.
    """
    if not path.is_dir():
        return {
            hostname: store_path.name for hostname, store_path in read_store_paths(path).items()
        }
    try:
        fleet = decode_fleet(load_release(path).fleet.body)
    except DecodeError as error:
        raise DeclarationError(
            Problem(f"{path}: {each.path}", "not a resolved fleet", each.expected, each.found)
            for each in error.problems
        ) from error
    closures = {hostname: host.closure_hash for hostname, host in fleet.hosts.items()}
    return {hostname: closure for hostname, closure in closures.items() if closure is not None}


def _without_closure(
    checked: CheckedFleet, pinned: Mapping[str, str], built: Mapping[str, Mapping[str, str]]
) -> Iterator[Problem]:
    for hostname, commit in sorted(pinned.items()):
        if hostname not in built.get(commit, {}):
            scope = checked.pins[hostname].scope
            yield Problem(
                at("closures", hostname),
                f"pinned to {commit} by {scope}",
                f"its closure built from {commit} (--pinned {commit}=PATH)",
                "none" if commit in built else f"no closures built from {commit}",
            )
