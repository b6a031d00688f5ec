"""What CI released: the only closures that may ever run, and when each was signed."""

from collections.abc import Mapping
from datetime import datetime

from attrs import define, field, frozen

from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_simulation.scenario.scenario import ChannelLayout


@frozen
class Signing:
    """CI signed a release at a time, with a key."""

    at: datetime
    key: str


@define
class Released:
    """One release: the closure of each host, when each wave may begin if it has a time, and all its signings."""

    layout: ChannelLayout
    closures: Mapping[str, str]
    begins: tuple[datetime, ...] = ()
    signings: list[Signing] = field(factory=list[Signing])

    def is_older_than(self, other: "Released") -> bool:
        """Return whether it was last signed before `other` was first signed."""
        return self.signings[-1].at < other.signings[0].at


class Releases:
    """All genuine releases, by rollout id.

    manifests: all that CI signed, with the channel as it was then. calendars: of the fleet in which each is anchored.
    """

    def __init__(self) -> None:
        self._released: dict[str, Released] = {}
        self.manifests: dict[bytes, ChannelLayout] = {}
        self.calendars: dict[bytes, tuple[CalendarEntry, ...]] = {}

    def note(
        self,
        layout: ChannelLayout,
        ref: str,
        closures: Mapping[str, str],
        begins: tuple[datetime, ...],
        signing: Signing,
        manifest: bytes,
        calendar: tuple[CalendarEntry, ...] = (),
    ) -> None:
        """CI signed the release `ref` of a channel. closures: by host. begins: by wave. manifest: the signed bytes."""
        rollout_id = f"{layout.name}@{ref}"
        new = Released(layout, dict(closures), begins)
        released = self._released.setdefault(rollout_id, new)
        released.signings.append(signing)
        self.manifests[manifest] = layout
        self.calendars[manifest] = calendar

    def find(self, rollout_id: str) -> Released | None:
        """Return the release, if CI ever made it."""
        return self._released.get(rollout_id)
