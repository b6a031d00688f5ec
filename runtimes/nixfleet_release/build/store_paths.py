"""Closures that were built elsewhere and already have names: their health checks are compared, not written.

Only closures on this machine can be compared; the hosts of the others are returned as `unseen`.
Source: docs/spec/declarations.md, What signs what.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from nixfleet_proto.codec import DecodeError, HealthCheckSet, decode_health_checks, parse_json
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import HEALTH_CHECKS_PATH
from nixfleet_release.check.checked import CheckedFleet
from nixfleet_release.errors import DeclarationError
from nixfleet_runtime.documents.problems import Problem, at, listed, quoted, unknown
from nixfleet_runtime.releases.nar import InvalidClosureName, split_closure_name
from nixfleet_runtime.storage.regular_file import LARGE_FILE_BYTES_MAX, read_regular_file

# Of a NixOS system: the release it is of, and its platform, such as x86_64-linux.
_NIXOS_FILE = "nixos-version"
_PLATFORM_FILE = "system"
_PLATFORM_BYTES_MAX = 4096


@frozen
class NamedClosures:
    """Closures by host. unseen: the hosts whose closure is not on this machine and was not checked."""

    closures: FrozenMap[str, str]
    unseen: tuple[str, ...] = ()


def read_store_paths(file: Path) -> Mapping[str, Path]:
    """Return the store paths by host from the JSON object in `file`. Raises: DeclarationError, OSError."""
    texts = texts_by_host(file, "not store paths by host", '{"web-01": "/nix/store/…"}')
    return {host: Path(path) for host, path in texts.items()}


def texts_by_host(file: Path, message: str, expected: str) -> Mapping[str, str]:
    """Return the strings by host from the JSON object in `file`.

    message, expected: of the problem, if it has something else. Raises: DeclarationError, OSError.
    """
    try:
        content = parse_json(read_regular_file(file, bytes_max=LARGE_FILE_BYTES_MAX))
    except DecodeError as error:
        raise DeclarationError(
            Problem(f"{file}: {each.path}", "not JSON", each.expected, each.found)
            for each in error.problems
        ) from error
    entries = content if isinstance(content, dict) else {"$": content}
    texts = {host: text for host, text in entries.items() if isinstance(text, str)}
    if len(texts) < len(entries) or not isinstance(content, dict):
        found = listed(entries.keys() - texts.keys())
        raise DeclarationError([Problem(str(file), message, expected, found)])
    return texts


def closures_at(checked: CheckedFleet, paths: Mapping[str, Path]) -> NamedClosures:
    """Return the closures at `paths` by host, and check those that are on this machine.

    Raises: DeclarationError, with every problem; OSError.
    """
    problems = tuple(_problems(checked, paths))
    if problems:
        raise DeclarationError(problems)
    return NamedClosures(
        FrozenMap({hostname: path.name for hostname, path in sorted(paths.items())}),
        tuple(hostname for hostname, path in sorted(paths.items()) if not path.exists()),
    )


def health_checks_in(tree: Path) -> HealthCheckSet:
    """Return the health checks in the closure at `tree`; empty if it has no such file.

    Raises: DecodeError, OSError.
    """
    try:
        return decode_health_checks(read_regular_file(tree / HEALTH_CHECKS_PATH))
    except FileNotFoundError:
        return FrozenMap()


def platform_problems(
    place: str, tree: Path, hostname: str, checked: CheckedFleet
) -> Iterator[Problem]:
    """Yield a problem if the NixOS system at `tree` says that it is for another platform than the host's."""
    if not (tree / _NIXOS_FILE).is_file() or not (tree / _PLATFORM_FILE).is_file():
        return  # a plain tree, which is for any platform
    built_for = read_regular_file(tree / _PLATFORM_FILE, bytes_max=_PLATFORM_BYTES_MAX)
    found = built_for.decode("ascii", "replace").strip()
    platform = checked.declaration.hosts[hostname].platform
    if found != platform:
        expected = f"{platform}, the platform of {hostname}"
        yield Problem(place, "built for another platform", expected, quoted(found))


def _problems(checked: CheckedFleet, paths: Mapping[str, Path]) -> Iterator[Problem]:
    for hostname, path in sorted(paths.items()):
        place = at("closures", hostname)
        if hostname not in checked.health_checks:
            yield unknown(place, "host", hostname, checked.health_checks)
            continue
        try:
            split_closure_name(path.name)
        except InvalidClosureName as error:
            yield Problem(place, "not a store path", "/nix/store/{hash}-{name}", quoted(error.text))
            continue
        if path.exists():
            yield from _differences(place, path, checked.health_checks[hostname])
            yield from platform_problems(place, path, hostname, checked)


def _differences(place: str, tree: Path, declared: HealthCheckSet) -> Iterator[Problem]:
    try:
        built = health_checks_in(tree)
    except DecodeError as error:
        yield Problem(place, "unreadable health checks", HEALTH_CHECKS_PATH, str(error))
        return
    different = {
        name for name in built.keys() | declared.keys() if built.get(name) != declared.get(name)
    }
    if different:
        yield Problem(
            place,
            "built with other health checks than declared",
            f"{listed(declared) or 'none'}, in {HEALTH_CHECKS_PATH}",
            f"differences in {listed(different)}",
        )
