"""The time zones of this machine, loaded as they are asked for: from the system, else from the package tzdata."""

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones


class SystemZones(Mapping[str, tzinfo]):
    """Time zones by their IANA names. A name that names no zone is not in it, whatever is wrong with it."""

    def __getitem__(self, name: str) -> tzinfo:
        zone = _zone(name)
        if zone is None:
            raise KeyError(name)
        return zone

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _zone(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(available_timezones()))

    def __len__(self) -> int:
        return len(available_timezones())


@cache
def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    # A name may be a path out of the database, a directory in it, or no name at all.
    except (KeyError, ValueError, OSError):
        return None
