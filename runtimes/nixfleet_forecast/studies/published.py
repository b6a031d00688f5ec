"""The releases of a log: its artefacts alone are read, and no other row is decoded.

What CI published is there byte for byte. Source: docs/spec/log.md.
"""

from collections.abc import Iterable

from attrs import Factory, define, frozen

from nixfleet_control_plane.engine.state import fleet_name
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.log_entry import ArtefactTaken, LogRow
from nixfleet_forecast.studies.refusal import StudyRefused
from nixfleet_proto.codec import decode_fleet, decode_manifest
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest

_KIND = "artefact_accepted"


@frozen
class Published:
    """A manifest and the fleet in which it is anchored."""

    manifest: RolloutManifest
    fleet: FleetResolved


@define
class Releases:
    """The manifests of a log by rollout, the last body of each, in the order in which they came first.

    Fleets are kept as text, and decoded when they are looked at: a log has many, and two are compared.
    """

    _manifests: dict[RolloutId, str] = Factory(dict[RolloutId, str])
    _fleets: dict[str, str] = Factory(dict[str, str])

    def take(self, row: LogRow) -> None:
        """Take the next row. Raises: DamagedRow."""
        if row.kind != _KIND:
            return
        entry = entry_of(row).entry
        assert isinstance(entry, ArtefactTaken), entry
        if entry.rollout_id is not None:
            self._manifests[RolloutId(entry.rollout_id)] = entry.body
        else:
            self._fleets[entry.name] = entry.body

    def of(self, rollout_id: RolloutId) -> Published:
        """Return what was published of a rollout. Raises: StudyRefused, if the log does not have it."""
        body = self._manifests.get(rollout_id)
        if body is None:
            raise StudyRefused(
                f"the log has no manifest of {rollout_id}: it was exported and dropped, or never was"
            )
        manifest = decode_manifest(body.encode())
        fleet = self._fleets.get(fleet_name(manifest.fleet_resolved_hash))
        if fleet is None:
            raise StudyRefused(f"the log has no fleet of {rollout_id}: it was exported and dropped")
        return Published(manifest, decode_fleet(fleet.encode()))

    def before(self, rollout_id: RolloutId) -> RolloutId | None:
        """Return the rollout of the same channel that came before; `None`: there was none."""
        found = None
        for each in self._manifests:
            if each == rollout_id:
                return found
            if each.channel == rollout_id.channel:
                found = each
        return None


def releases_in(rows: Iterable[LogRow]) -> Releases:
    """Return the releases of `rows`. Raises: DamagedRow."""
    found = Releases()
    for row in rows:
        found.take(row)
    return found
