"""What CI would have published of a recorded fleet under another declaration's policy: waves, budgets, tolerances,
deadlines, guards, calendar and edges of the declaration, with the hosts, closures and refs of the record.
"""

from collections.abc import Container, Iterator
from pathlib import Path

from attrs import evolve

from nixfleet_control_plane.engine.state import fleet_name
from nixfleet_control_plane.messages.log_entry import ArtefactTaken
from nixfleet_proto.codec import decode_fleet, decode_manifest, encode_fleet, encode_manifest
from nixfleet_proto.fleet import Edge, FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import artefact_hash
from nixfleet_release import CheckedFleet, DeclarationError
from nixfleet_release.build.project import project_channel
from nixfleet_release.build.resolve import resolve
from nixfleet_runtime.releases.layout import FLEET_FILE

_NO_CLOSURE = "none"


class Revision:
    """Gives what would have been published under the policy of `checked`. file: where that was read from.

    revised: the rollouts of which it did. misfits: of the others, why not.
    """

    def __init__(self, file: Path, checked: CheckedFleet) -> None:
        self.file = file
        self.revised: set[str] = set()
        self.misfits: dict[str, str] = {}
        self._checked = checked
        self._fleets: dict[str, FleetResolved] = {}

    def __call__(self, taken: tuple[ArtefactTaken, ...]) -> tuple[ArtefactTaken, ...]:
        """Return what would have been taken in place of `taken`."""
        return tuple(each for entry in taken for each in self._instead(entry))

    def _instead(self, entry: ArtefactTaken) -> Iterator[ArtefactTaken]:
        if entry.rollout_id is None:
            if entry.name.startswith(FLEET_FILE):
                fleet = decode_fleet(entry.body.encode())
                self._fleets[artefact_hash(entry.body.encode())] = fleet
            yield entry
            return
        manifest = decode_manifest(entry.body.encode())
        fleet = self._fleets[manifest.fleet_resolved_hash]
        misfit = self._misfit(fleet, manifest)
        if misfit is not None:
            self.misfits[entry.rollout_id] = misfit
            yield entry
            return
        try:
            other = revised_fleet(self._checked, fleet, manifest.channel_ref)
        except DeclarationError as error:
            self.misfits[entry.rollout_id] = str(error)
            yield entry
            return
        self.revised.add(entry.rollout_id)
        body = encode_fleet(other)
        hash_ = artefact_hash(body)
        yield evolve(entry, name=fleet_name(hash_), rollout_id=None, body=body.decode())
        made = project_channel(other, manifest.channel, manifest.channel_ref, hash_)
        closures = {it.hostname: it.target_closure for it in manifest.host_set}
        host_set = tuple(
            evolve(it, target_closure=closures[it.hostname])
            for it in made.host_set
            if it.hostname in closures
        )
        told = evolve(made, meta=manifest.meta, host_set=host_set)
        yield evolve(entry, body=encode_manifest(told).decode())

    def _misfit(self, fleet: FleetResolved, manifest: RolloutManifest) -> str | None:
        declared = self._checked.declaration
        if manifest.channel not in declared.channels:
            return f"no channel {manifest.channel}"
        for assignment in manifest.host_set:
            name = assignment.hostname
            host = declared.hosts.get(name)
            if host is None:
                return f"no host {name}"
            if host.channel != manifest.channel:
                return f"host {name} on channel {host.channel}, not {manifest.channel}"
            if name not in fleet.hosts:
                return f"host {name}, which the fleet of its time does not have"
        return None


def revised_fleet(checked: CheckedFleet, fleet: FleetResolved, channel_ref: str) -> FleetResolved:
    """Return `fleet` under the policy of `checked`, as of `channel_ref`. Raises: DeclarationError."""
    declared = checked.declaration
    hosts = {
        name: evolve(declared.hosts[name], enabled=host.enabled)
        for name, host in fleet.hosts.items()
        if name in declared.hosts and host.channel in declared.channels
    }
    known = evolve(
        declared,
        hosts=FrozenMap(hosts),
        edges=tuple(it for it in declared.edges if _is_within(it, hosts)),
    )
    closures = {
        name: fleet.hosts[name].closure_hash or _NO_CLOSURE
        for name in hosts
        if not known.is_disabled(name)
    }
    resolved = resolve(
        evolve(checked, declaration=known), closures, fleet.meta, channel_ref=channel_ref
    )
    return evolve(
        resolved,
        hosts=FrozenMap(
            {
                name: evolve(host, closure_hash=fleet.hosts[name].closure_hash)
                for name, host in resolved.hosts.items()
            }
        ),
    )


def _is_within(edge: Edge, hosts: Container[str]) -> bool:
    return edge.gates in hosts and edge.gated in hosts
