"""A rollout manifest: which host of one channel gets which closure, in which wave, under which policy.

Signed by CI, handed on by the control plane, trusted by agents. Frozen data.
Source: docs/spec/declarations.md, Manifests; docs/spec/trust.md, Anchors.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import TypeVar

from attrs import frozen

from nixfleet_proto.checked import checked
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.fleet import (
    SCHEMA_VERSION,
    Meta,
    Ramp,
    RolloutPolicy,
    Selector,
    pace_problems,
)
from nixfleet_proto.ids import RolloutId

T = TypeVar("T")


@frozen
@checked
class HostAssignment:
    """The closure that one host gets, and its wave (0 where the channel has no waves)."""

    hostname: str
    target_closure: str
    wave_index: int = 0


@frozen
@checked
class ManifestBudget:
    """A disruption budget with its members frozen, so a later fleet cannot widen a rollout under way."""

    selector: Selector
    hosts: tuple[str, ...]
    max_in_flight: int | None = None
    max_in_flight_pct: int | None = None
    ramp: Ramp | None = None
    max_per_minute: int | None = None

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from pace_problems(self.max_per_minute)


@frozen
@checked
class RolloutManifest:
    """What is signed for one rollout.

    fleet_resolved_hash: SHA-256, in hex, of the canonical bytes of the `fleet.resolved.json` it came from.
    wave_soak_minutes: one per wave; empty in manifests of the public project, which leave it to the fleet.
    freshness_window_minutes: for how long the signature is accepted; `None` in manifests of the public project, which
    leave it to the receiver.
    wave_not_before: the earliest time at which each wave begins, `None` for at once; empty when none has one.
    blast_radius: how many hosts may have failed at worst, for people: nothing is decided by it. `None`: not said.
    """

    channel: str
    channel_ref: str
    display_name: str
    fleet_resolved_hash: str
    host_set: tuple[HostAssignment, ...]
    meta: Meta
    rollout_policy: RolloutPolicy = RolloutPolicy()
    wave_soak_minutes: tuple[int, ...] = ()
    disruption_budgets: tuple[ManifestBudget, ...] = ()
    schema_version: int = SCHEMA_VERSION
    freshness_window_minutes: int | None = None
    wave_not_before: tuple[datetime | None, ...] = ()
    blast_radius: int | None = None

    @property
    def rollout_id(self) -> RolloutId:
        """The id rebuilt from what was signed. Raises: InvalidRolloutId."""
        return RolloutId.of(self.channel, self.channel_ref)

    def target_of(self, hostname: str) -> str | None:
        """Return the closure signed for `hostname`, `None` when the manifest does not name it."""
        for assignment in self.host_set:
            if assignment.hostname == hostname:
                return assignment.target_closure
        return None

    def soak_minutes_of(self, hostname: str) -> int | None:
        """Return the soak signed for the wave of `hostname`; `None` when the manifest signs none for it."""
        return _of_wave(self.wave_soak_minutes, self._wave_of(hostname))

    def not_before_of(self, hostname: str) -> datetime | None:
        """Return the earliest time at which the wave of `hostname` begins; `None` when the manifest signs none."""
        return _of_wave(self.wave_not_before, self._wave_of(hostname))

    def _wave_of(self, hostname: str) -> int | None:
        assignments = (each for each in self.host_set if each.hostname == hostname)
        return next((each.wave_index for each in assignments), None)


def _of_wave(values: tuple[T, ...], wave: int | None) -> T | None:
    return None if wave is None or wave >= len(values) else values[wave]
