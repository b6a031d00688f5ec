"""What pins mean for a release: a pinned channel points at its pin, a pinned host gets what was built from it.

Closures of another commit are taken as they are: their health checks are theirs, and were signed with them.
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
    """Return, for each channel that is pinned as a whole at `now`, what it points at."""
    pins = live_pins(checked.declaration.pins, now)
    return {
        scope.name: pin.commit
        for scope, own in pins.items()
        if scope.kind is ScopeKind.CHANNEL
        for pin in own.values()
    }


def pinned_elsewhere(checked: CheckedFleet, channel_ref: str) -> dict[str, str]:
    """Return the commits of the hosts that are pinned to another one than `channel_ref`."""
    commits = {hostname: pin.value.commit for hostname, pin in checked.pins.items()}
    return {hostname: it for hostname, it in commits.items() if it != channel_ref}


def closures_of_pinned(
    checked: CheckedFleet, channel_ref: str, built: Mapping[str, Mapping[str, str]]
) -> FrozenMap[str, str]:
    """Return the closures of the hosts that are pinned elsewhere, by host.

    built: by commit, the closures by host. Raises: DeclarationError, for all hosts that have none there.
    """
    pinned = pinned_elsewhere(checked, channel_ref)
    problems = tuple(_without_closure(checked, pinned, built))
    if problems:
        raise DeclarationError(problems)
    return FrozenMap({hostname: built[commit][hostname] for hostname, commit in pinned.items()})


def read_built(path: Path) -> Mapping[str, str]:
    """Return closures by host: of the release in a directory, or the store paths in a JSON file.

    Raises: DeclarationError, NotARelease, IncompleteRelease, OSError.
    """
    if not path.is_dir():
        return {hostname: it.name for hostname, it in read_store_paths(path).items()}
    try:
        fleet = decode_fleet(load_release(path).fleet.body)
    except DecodeError as error:
        raise DeclarationError(
            Problem(f"{path}: {it.path}", "not a resolved fleet", it.expected, it.found)
            for it in error.problems
        ) from error
    closures = {hostname: host.closure_hash for hostname, host in fleet.hosts.items()}
    return {hostname: it for hostname, it in closures.items() if it is not None}


def _without_closure(
    checked: CheckedFleet, pinned: Mapping[str, str], built: Mapping[str, Mapping[str, str]]
) -> Iterator[Problem]:
    for hostname, commit in sorted(pinned.items()):
        if hostname not in built.get(commit, {}):
            scope = checked.pins[hostname].scope
            yield Problem(
                at("closures", hostname),
                f"pinned to {commit} by {scope}",
                f"its closure of {commit} (--pinned {commit}=PATH)",
                "none" if commit in built else f"no closures of {commit} at all",
            )
