"""Finds the parts that a configuration names: those that come with nixfleet, then entry points of installed packages.

A part of nixfleet's own cannot be replaced by an entry point of the same name. An entry point is loaded only if a
configuration names it. Each way to fail is an error of its own, with the entry point, its distribution, what was
expected and what was found.
Source: docs/how-to/embedding.md, Plug-ins.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final, TypeVar, cast

from attrs import frozen

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.documents.problems import listed, quoted

T = TypeVar("T")

STORES: Final = "nixfleet.stores"
JOURNALS: Final = "nixfleet.journals"
TRANSPORTS: Final = "nixfleet.transports"
ACTIVATORS: Final = "nixfleet.activators"
JUDGES: Final = "nixfleet.judges"
OWN_DISTRIBUTION: Final = "nixfleet"


class PluginUnusable(NixfleetError):
    """A configuration names a plug-in that cannot be used.

    Attributes: `group` and `name` of the entry point, `distribution`, `expected`, `found`.
    """

    def __init__(self, group: str, name: str, distribution: str, expected: str, found: str) -> None:
        super().__init__(group, name, distribution, expected, found)
        self.group = group
        self.name = name
        self.distribution = distribution
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        where = f"entry point {self.name!r} of {self.group}"
        by = f" in {self.distribution}" if self.distribution else ""
        return f"{where}{by}: expected {self.expected}, found {self.found}"


class PluginMissing(PluginUnusable):
    """No installed distribution has the entry point, and nixfleet has no such part."""


class PluginAmbiguous(PluginUnusable):
    """Several installed distributions have the entry point."""


class PluginFailed(PluginUnusable):
    """The entry point cannot be loaded, or raises when it is called. `__cause__` is what it raised."""


class PluginUnfit(PluginUnusable):
    """The entry point, or what it made, is not what its group asks for."""


@frozen
class Plugin:
    """The name of a part in a group, and the distribution that it is from; empty: nixfleet itself."""

    group: str
    name: str
    distribution: str = ""

    @property
    def named(self) -> str:
        """What messages call it."""
        return f"{self.name!r} of {self.distribution}" if self.distribution else repr(self.name)

    def unfit(self, expected: str, found: str) -> PluginUnfit:
        """Return the error."""
        return PluginUnfit(self.group, self.name, self.distribution, expected, found)

    def failed(self, expected: str, error: Exception) -> PluginFailed:
        """Return the error, to be raised from `error`."""
        return PluginFailed(self.group, self.name, self.distribution, expected, repr(error))

    def require(self, made: object, calls: type) -> None:
        """Check that `made` has every call of the Protocol `calls`, each `async` where the Protocol's is.

        Raises: PluginUnfit.
        """
        missing = [name for name in calls_of(calls) if not callable(getattr(made, name, None))]
        if missing:
            found = f"{type(made).__qualname__} without {listed(missing)}"
            raise self.unfit(f"every call of {calls.__name__}", found)
        for name in calls_of(calls):
            is_async = inspect.iscoroutinefunction(getattr(calls, name))
            call = getattr(made, name)
            if is_async and not _is_async(call):
                found = f"{type(made).__qualname__}.{name}, which is not async"
                raise self.unfit(f"every call of {calls.__name__}", found)


def calls_of(protocol: type) -> tuple[str, ...]:
    """Return the names of the calls of a Protocol, in order."""
    return tuple(
        name
        for name, value in vars(protocol).items()
        if inspect.isfunction(value) and not name.startswith("_")
    )


def read_plugin(
    section: Section, group: str, own: Mapping[str, Callable[[Section], T]], default: str = ""
) -> tuple[Plugin, T] | None:
    """Return what the part that `kind` names in `section` makes of it; `None`: the problem is reported.

    A part is a function that reads its options from the section. own: those of nixfleet. default: the part if `kind` is
    not set; empty: it is required.
    """
    name = section.text("kind", default or None)
    if not name:
        section.accept_unknown_keys()
        return None
    try:
        plugin, make = find_plugin(group, name, own)
        return plugin, _made(plugin, make, section)
    except PluginUnusable as error:
        refuse_plugin(section, error)
        return None


def refuse_plugin(section: Section, error: PluginUnusable) -> None:
    """Report that the part that `kind` names in `section` cannot be used."""
    if isinstance(error, PluginMissing):
        section.refuse("kind", "unknown value", error.expected, quoted(error.name))
        section.accept_unknown_keys()
        return
    by = f" in {error.distribution}" if error.distribution else ""
    message = f"entry point {error.name!r} of {error.group}{by} cannot be used"
    section.refuse("kind", message, error.expected, error.found)
    section.accept_unknown_keys()


def _made(plugin: Plugin, make: Callable[[Section], T], section: Section) -> T:
    if not plugin.distribution:
        return make(section)  # A fault of our own is no fault of the configuration.
    try:
        return make(section)
    except Exception as error:
        raise plugin.failed("its options to be read", error) from error


def find_plugin(
    group: str, name: str, own: Mapping[str, Callable[[Section], T]]
) -> tuple[Plugin, Callable[[Section], T]]:
    """Return the function that `name` stands for in `group`.

    Raises: PluginMissing, PluginAmbiguous, PluginFailed, PluginUnfit.
    """
    if name in own:
        return Plugin(group, name), own[name]
    point = _entry_point(group, name, own)
    plugin = Plugin(group, name, _distribution_of(point))
    expected = "a function of one argument, the section of the configuration"
    try:
        made: object = point.load()
    except Exception as error:
        raise plugin.failed(f"{point.value} to be imported", error) from error
    if not callable(made):
        raise plugin.unfit(expected, f"{point.value}, which is a {type(made).__name__}")
    try:
        inspect.signature(made).bind(None)
    except (TypeError, ValueError) as error:
        raise plugin.unfit(expected, f"{point.value}: {error}") from error
    # What it returns is found out when it is called: a port is a Protocol.
    return plugin, cast(Callable[[Section], T], made)


def _entry_point(group: str, name: str, own: Iterable[str]) -> EntryPoint:
    there = entry_points(group=group)
    found = [point for point in there if point.name == name]
    if not found:
        installed = f"an installed entry point ({listed(it.name for it in there) or 'none is'})"
        expected = f"one of {listed(own)}, or {installed}" if [*own] else installed
        raise PluginMissing(group, name, "", expected, "no entry point of this name")
    if len({(point.value, _distribution_of(point)) for point in found}) > 1:
        by = listed(sorted(_distribution_of(point) for point in found))
        raise PluginAmbiguous(group, name, by, "one distribution", f"{len(found)}")
    return found[0]


def _distribution_of(point: EntryPoint) -> str:
    """Return the name and version of another distribution; nothing for our own, whose errors are shown as they are."""
    if point.dist is None or point.dist.name == OWN_DISTRIBUTION:
        return ""
    return f"{point.dist.name} {point.dist.version}"


def _is_async(call: object) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
        getattr(call, "__call__", None)  # noqa: B004
    )
