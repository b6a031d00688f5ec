"""What CI does, in little: declares a channel by a layout, and signs its fleet and its manifest."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

from attrs import evolve, frozen

from nixfleet_control_plane.messages.inputs import EnrollHost, ManifestsUpdated
from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.codec import (
    encode_bootstrap_nonces,
    encode_fleet,
    encode_manifest,
    encode_revocations,
)
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    BootstrapToken,
    EnrollRequest,
    Revocation,
    Revocations,
)
from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    OnDrift,
    Ramp,
    RolloutPolicy,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_proto.signing import (
    SigningKey,
    artefact_hash,
    fingerprint_of,
    sign_artefact,
    sign_token,
    verify_fleet,
    verify_manifest,
    verify_nonces,
    verify_revocations,
)
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_proto.steering.guards import WaveGuards
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot, Verified

OPERATOR_KEY = SigningKey(sha256(b"ada").digest())
"""Of ada, who may operate. The same in every run, so that lives can be compared."""
START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
CHANNEL = "stable"
YEAR_MINUTES = 365 * 24 * 60


@frozen
class Layout:
    """A channel: who is in which wave, under which policy.

    after: the channels that it waits for. closure: what every host gets; `None`: each its own.
    max_in_flight, ramp, max_per_minute: of a budget of all hosts.
    pubkeys: of hosts, by name. not_before: the earliest time of each wave; empty: none has one. policy: but for
    `on_health_failure`. guards: of each wave; empty: none has any. author: whom the manifest names.
    """

    waves: tuple[tuple[str, ...], ...] = (("web-01",), ("web-02", "web-03"))
    soak_minutes: int = 5
    max_in_flight: int | None = None
    edges: tuple[Edge, ...] = ()
    on_health_failure: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT
    channel: str = CHANNEL
    after: tuple[str, ...] = ()
    closure: str | None = None
    pubkeys: tuple[tuple[str, str], ...] = ()
    not_before: tuple[datetime | None, ...] = ()
    policy: RolloutPolicy = RolloutPolicy()
    on_drift: OnDrift = OnDrift.REPORT
    ramp: Ramp | None = None
    max_per_minute: int | None = None
    guards: tuple[WaveGuards, ...] = ()
    calendar: tuple[CalendarEntry, ...] = ()
    author: str | None = None

    @property
    def whole_policy(self) -> RolloutPolicy:
        return evolve(self.policy, on_health_failure=self.on_health_failure)

    @property
    def all_guards(self) -> tuple[WaveGuards, ...]:
        return self.guards or (WaveGuards(),) * len(self.waves)

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for wave in self.waves for host in wave)

    def fleet(self, channel_ref: str, now: datetime) -> FleetResolved:
        """Return a fleet in which every host gets its closure."""
        return FleetResolved(
            hosts=FrozenMap(
                {
                    host: FleetHost(
                        self.channel,
                        closure_hash=self._closure_of(channel_ref, host),
                        pubkey=dict(self.pubkeys).get(host),
                    )
                    for host in self.hosts
                }
            ),
            channels=FrozenMap(
                {self.channel: FleetChannel("canary-first", on_drift=self.on_drift)}
            ),
            rollout_policies=FrozenMap({"canary-first": self.whole_policy}),
            waves=FrozenMap(
                {
                    self.channel: tuple(
                        Wave(hosts, self.soak_minutes, guards=guards)
                        for hosts, guards in zip(self.waves, self.all_guards, strict=True)
                    )
                }
            ),
            meta=Meta(now),
            edges=self.edges,
            channel_edges=tuple(Edge(gates, self.channel) for gates in self.after),
            disruption_budgets=self._budgets(),
            calendar=self.calendar,
        )

    def manifest(self, channel_ref: str, now: datetime, fleet_hash: str) -> RolloutManifest:
        """Return the manifest of the channel's rollout."""
        return RolloutManifest(
            channel=self.channel,
            channel_ref=channel_ref,
            display_name=f"{self.channel}@{channel_ref}",
            fleet_resolved_hash=fleet_hash,
            host_set=tuple(
                HostAssignment(host, self._closure_of(channel_ref, host), index)
                for index, wave in enumerate(self.waves)
                for host in wave
            ),
            meta=Meta(now, author=self.author),
            rollout_policy=self.whole_policy,
            wave_soak_minutes=tuple(self.soak_minutes for _ in self.waves),
            wave_not_before=self.not_before,
            disruption_budgets=tuple(
                ManifestBudget(
                    budget.selector,
                    self.hosts,
                    budget.max_in_flight,
                    ramp=budget.ramp,
                    max_per_minute=budget.max_per_minute,
                )
                for budget in self._budgets()
            ),
        )

    def _closure_of(self, channel_ref: str, host: str) -> str:
        return self.closure or f"{channel_ref}-{host}"

    def _budgets(self) -> tuple[DisruptionBudget, ...]:
        limits = self.max_in_flight, None, self.ramp, self.max_per_minute
        if limits == (None, None, None, None):
            return ()
        return (DisruptionBudget(Selector(all=True), *limits),)


class Publisher:
    """CI, with a key of its own. What it signs is verified as everybody verifies."""

    def __init__(self) -> None:
        self._key, self._org_root = SigningKey.generate(), SigningKey.generate()
        self.trust = TrustRoot(
            KeySlot(self._key.public_key),
            KeySlot(self._org_root.public_key),
            (Operator("ada", OPERATOR_KEY.public_key, OperatorRole.OPERATE),),
        )

    def release(self, layout: Layout, channel_ref: str, now: datetime) -> ManifestsUpdated:
        """Return a release of one channel, fresh from the press."""
        fleet = self.fleet(layout.fleet(channel_ref, now), now)
        manifest = layout.manifest(channel_ref, now, fleet.artefact_hash)
        return ManifestsUpdated(fleet, (self.manifest(manifest, now),))

    def signed_again(self, release: ManifestsUpdated, now: datetime) -> ManifestsUpdated:
        """Return the same release, signed anew at `now`."""
        fleet = self.fleet(evolve(release.fleet.value, meta=Meta(now)), now)
        manifests = tuple(
            self.manifest(
                evolve(each.value, meta=Meta(now), fleet_resolved_hash=fleet.artefact_hash), now
            )
            for each in release.manifests
        )
        return ManifestsUpdated(fleet, manifests)

    def fleet(self, fleet: FleetResolved, now: datetime) -> Verified[FleetResolved]:
        """Return `fleet`, signed and verified."""
        return verify_fleet(
            sign_artefact(encode_fleet(fleet), self._key),
            self.trust,
            now,
            freshness_window_minutes=YEAR_MINUTES,
        )

    def revocations(self, now: datetime, *revoked: Revocation) -> Verified[Revocations]:
        """Return the list of those who are revoked, signed and verified."""
        return verify_revocations(
            sign_artefact(encode_revocations(Revocations(revoked, Meta(now))), self._key),
            self.trust,
            now,
            freshness_window_minutes=YEAR_MINUTES,
        )

    def nonces(self, now: datetime, *tokens: BootstrapToken) -> Verified[BootstrapNonces]:
        """Return the list of the nonces of `tokens`, signed and verified."""
        listed = tuple(BootstrapNonce(it.nonce, it.hostname, it.expires_at) for it in tokens)
        return verify_nonces(
            sign_artefact(encode_bootstrap_nonces(BootstrapNonces(listed, Meta(now))), self._key),
            self.trust,
            now,
            freshness_window_minutes=YEAR_MINUTES,
        )

    def enrollment(self, token: BootstrapToken, key: SigningKey) -> EnrollHost:
        """Return the wish of a host that has `key` and this token, which the org root signs."""
        request = EnrollRequest(sign_token(token, self._org_root), key.public_key.public_key)
        return EnrollHost(request, key.public_key)

    def manifest(self, manifest: RolloutManifest, now: datetime) -> Verified[RolloutManifest]:
        """Return `manifest`, signed and verified."""
        return verify_manifest(
            sign_artefact(encode_manifest(manifest), self._key),
            self.trust,
            now,
            freshness_window_minutes=YEAR_MINUTES,
            expected_rollout_id=manifest.rollout_id,
        )


def token_for(
    hostname: str, key: SigningKey, now: datetime, nonce: str = "n-1", *, minutes: float = 60
) -> BootstrapToken:
    """Return a token that lets `hostname` in with `key`, for so long."""
    expires_at = now + timedelta(minutes=minutes)
    return BootstrapToken(hostname, fingerprint_of(key.public_key), now, expires_at, nonce)


def rollout_id_of(release: ManifestsUpdated) -> RolloutId:
    """Return the rollout that a release of one channel is for."""
    (manifest,) = release.manifests
    return manifest.value.rollout_id


def fleet_hash_of(fleet: FleetResolved) -> str:
    """Return what a manifest is anchored by."""
    return artefact_hash(encode_fleet(fleet))
