"""CI and its release directory: what it signed last, with which key, and what attackers put there instead.

Keys are derived from the seed. What CI signed is recorded for the judge: nothing else may ever run.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from attrs import evolve, frozen

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
    Revocation,
    Revocations,
    SignedToken,
)
from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    Ramp,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.policy import RolloutPolicy, Tolerance
from nixfleet_proto.signing import (
    SigningKey,
    artefact_hash,
    fingerprint_of,
    sign_artefact,
    sign_token,
)
from nixfleet_proto.signing.approval import sign_approval
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.approval import Approval, SignedApproval
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_proto.steering.warrant import ClosureRule, SignedWarrant, Warrant
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustedKey, TrustRoot
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release.build.project import project_channel
from nixfleet_simulation.scenario.acts import Forgery
from nixfleet_simulation.scenario.randomness import Random, Seed, stream
from nixfleet_simulation.scenario.scenario import ChannelLayout

OPERATOR = "ada"
APPROVERS = (OPERATOR, "bob", "cyd")
STRANGER = "eve"
"""Who is in the trust file, and may only read."""
POLICY = "canary-first"
LONG_AGO = timedelta(hours=12)


@frozen
class Published:
    """The contents of the release directory: the fleet, and a manifest for each channel with a release.

    revocations: the list of those whose keys are refused. nonces: the list of tokens that may be used, if any was
    ever minted.
    """

    fleet: SignedArtefact
    manifests: tuple[tuple[str, SignedArtefact], ...]
    revocations: SignedArtefact
    nonces: SignedArtefact | None


@frozen
class LatestRelease:
    """A channel's latest release: its ref, the closure of every host, and when each wave may begin."""

    ref: str
    closures: FrozenMap[str, str]
    begins: tuple[datetime, ...] = ()


class ReleaseDirectory:
    """CI: declares, signs, and puts files where the control plane reads them.

    every_manifest: each manifest that it ever signed, by rollout id, the oldest first. signed_before: what it
    published before, the latest last. calendar: what the next signing declares.
    """

    def __init__(
        self,
        seed: Seed,
        channels: tuple[ChannelLayout, ...],
        enrolling: Collection[str] = (),
        calendar: tuple[CalendarEntry, ...] = (),
    ) -> None:
        """enrolling: the hosts whose keys the fleet does not declare."""
        self.calendar = calendar
        self._seed = seed
        self._enrolling = enrolling
        self._declared: dict[str, str] = {}
        self._nonces: dict[str, BootstrapNonce] = {}
        self._rng = stream(seed, "ci")
        self._channels = channels
        self._key = _key(self._rng)
        self._stranger = _key(self._rng)
        self._org_root_key = _key(stream(seed, "org root"))
        self._offers: dict[str, LatestRelease] = {}
        self._signed_last: Published | None = None
        self._revoked: dict[str, Revocation] = {}
        self._operator_key = _key(stream(seed, "operator"))
        others = {name: _key(stream(seed, "operator", name)) for name in (*APPROVERS[1:], STRANGER)}
        self._keys_of_operators = {OPERATOR: self._operator_key, **others}
        self.warrants: list[SignedWarrant] = []
        self.trust = TrustRoot(
            KeySlot(self._key.public_key),
            KeySlot(self._org_root_key.public_key),
            tuple(
                Operator(
                    name,
                    key.public_key,
                    OperatorRole.READ if name == STRANGER else OperatorRole.OPERATE,
                )
                for name, key in self._keys_of_operators.items()
            ),
        )
        self.published: Published | None = None
        self.signed_before: list[Published] = []
        self.every_manifest: dict[str, list[SignedArtefact]] = {}

    def release(
        self, channel: ChannelLayout, ref: str, closure: str, now: datetime
    ) -> LatestRelease:
        """Release `ref` on `channel`, and sign everything again."""
        closures = {host: closure or f"{ref}-{host}" for host in channel.hosts}
        # Times are signed in whole seconds.
        at = now.replace(microsecond=0)
        begins = tuple(at + timedelta(seconds=each) for each in channel.begins_after_seconds)
        offer = self._offers[channel.name] = LatestRelease(ref, FrozenMap(closures), begins)
        self.sign_again(now)
        return offer

    def amend(self, amended: ChannelLayout, now: datetime) -> None:
        """Sign everything again, with other hosts of the channel; its release stays."""
        self._channels = tuple(
            amended if channel.name == amended.name else channel for channel in self._channels
        )
        self.sign_again(now)

    def latest_release(self, channel: str) -> LatestRelease | None:
        """Return the latest release of `channel`."""
        return self._offers.get(channel)

    def sign_again(self, now: datetime) -> None:
        """Sign the current releases, as of `now`."""
        if self._offers:
            if self._signed_last is not None:
                self.signed_before.append(self._signed_last)
            self.published = self._signed_last = self._signed(self._offers, now, self._key)
            for channel, manifest in self.published.manifests:
                rollout_id = f"{channel}@{self._offers[channel].ref}"
                self.every_manifest.setdefault(rollout_id, []).append(manifest)

    def revoke(self, hostname: str, now: datetime) -> None:
        """Revoke the host's key."""
        self._revoked[hostname] = Revocation(hostname, now, "it was lost")
        self.sign_again(now)

    def reinstate(self, hostname: str, now: datetime) -> bool:
        """Remove the revocation of the host's key; return whether there was one, and everything was signed again."""
        if self._revoked.pop(hostname, None) is None:
            return False
        self.sign_again(now)
        return True

    def mint(
        self, hostname: str, key: TrustedKey, now: datetime, valid_for: timedelta
    ) -> SignedToken:
        """Mint a token for a host's key, and put its nonce on the list."""
        nonce = f"token-{len(self._nonces) + 1}"
        until = now + valid_for
        token = BootstrapToken(hostname, fingerprint_of(key), now, until, nonce)
        self._nonces[nonce] = BootstrapNonce(nonce, hostname, until)
        self.sign_again(now)
        return sign_token(token, self._org_root_key)

    def rotate(self, now: datetime, *, is_compromised: bool) -> None:
        """Sign with a new key from now on. is_compromised: the old key is no longer trusted."""
        old = self._key.public_key
        self._key = _key(self._rng)
        slot = (
            KeySlot(self._key.public_key, reject_before=now)
            if is_compromised
            else KeySlot(self._key.public_key, old)
        )
        self.trust = evolve(self.trust, ci_release_key=slot)
        self.sign_again(now)

    def order_recall(
        self, rollout_id: RolloutId, hosts: tuple[str, ...], now: datetime, lasts: timedelta
    ) -> SignedWarrant:
        """Sign an operator's order, as of `now`."""
        order_id = f"order-{len(self.warrants) + 1}"
        warrant = Warrant(
            order_id, rollout_id, ClosureRule.PRIOR, OPERATOR, "it is bad", now, now + lasts, hosts
        )
        self.warrants.append(sign_warrant(warrant, self._operator_key))
        return self.warrants[-1]

    def state(self, approval: Approval, by: str) -> SignedApproval:
        """Return a statement on a wave, signed with the key of `by`."""
        return sign_approval(approval, self._keys_of_operators[by])

    def older_hash(self, rollout_id: str) -> str:
        """Return the hash of a manifest of the rollout from before the latest, or of none."""
        older = self.every_manifest.get(rollout_id, [])[:-1]
        return artefact_hash(older[-1].body) if older else 64 * "0"

    def forged_warrant(self, rng: Random, rollout_id: RolloutId, hostname: str) -> SignedWarrant:
        """Return an order that was never given: altered, or signed by a key that may not."""
        signed = rng.choice(self.warrants)
        warrant = signed.warrant
        altered = rng.choice(
            (
                evolve(warrant, rollout_id=rollout_id),
                evolve(warrant, hosts=(hostname,)),
                evolve(warrant, order_id=f"{warrant.order_id}, again"),
                evolve(warrant, expires_at=warrant.expires_at + timedelta(hours=9)),
            )
        )
        key = rng.choice((None, self._key, self._stranger))
        return (
            SignedWarrant(altered, signed.signature) if key is None else sign_warrant(altered, key)
        )

    def forge(self, channel: ChannelLayout, forgery: Forgery, now: datetime) -> None:
        """Put a release of `channel` into the directory that must not be accepted."""
        ref = f"forged{self._rng.randrange(10**6)}"
        offer = LatestRelease(
            ref, FrozenMap({host: f"evil-{ref}-{host}" for host in channel.hosts})
        )
        offers = {**self._offers, channel.name: offer}
        if not self._offers:
            forgery = Forgery.BY_AN_UNKNOWN_KEY  # There is no other fleet yet.
        match forgery:
            case Forgery.BY_AN_UNKNOWN_KEY:
                self.published = self._signed(offers, now, self._stranger)
            case Forgery.ALTERED:
                assert self._signed_last is not None
                self.published = self._altered(self._signed_last)
            case Forgery.STALE:
                self.published = self._signed(offers, now - LONG_AGO, self._key)
            case Forgery.NOT_SIGNED:
                self.published = self._signed(offers, None, self._key)
            case Forgery.OTHER_FLEET:
                other = self._signed(self._offers, now, self._key)
                forged = self._signed(offers, now, self._key)
                self.published = evolve(forged, fleet=other.fleet)

    def forged_manifest(self, artefact: SignedArtefact) -> SignedArtefact:
        """Return an altered copy of `artefact` with the original signature."""
        evil = artefact.body.replace(b'"targetClosure":"', b'"targetClosure":"evil-')
        return SignedArtefact(evil, artefact.signature)

    def _altered(self, published: Published) -> Published:
        """Return what CI signed, with manifests whose bytes are not those that it signed."""
        manifests = ((name, self.forged_manifest(signed)) for name, signed in published.manifests)
        return evolve(published, manifests=tuple(manifests))

    def _signed(
        self, offers: dict[str, LatestRelease], at: datetime | None, key: SigningKey
    ) -> Published:
        fleet = self._fleet(offers, at)
        body = encode_fleet(fleet)
        anchor = artefact_hash(body)
        manifests = (
            (channel, project_channel(fleet, channel, offers[channel].ref, anchor))
            for channel in sorted(offers)
        )
        revoked = tuple(self._revoked[host] for host in sorted(self._revoked))
        listed = tuple(
            self._nonces[nonce]
            for nonce in sorted(self._nonces)
            if at is None or self._nonces[nonce].expires_at > at
        )
        return Published(
            sign_artefact(body, key),
            tuple((channel, _sign(manifest, key)) for channel, manifest in manifests),
            sign_artefact(encode_revocations(Revocations(revoked, Meta(at))), key),
            sign_artefact(encode_bootstrap_nonces(BootstrapNonces(listed, Meta(at))), key)
            if self._nonces
            else None,
        )

    def _fleet(self, offers: dict[str, LatestRelease], at: datetime | None) -> FleetResolved:
        channels = [channel for channel in self._channels if channel.name in offers]
        return FleetResolved(
            hosts=FrozenMap(
                {
                    host: FleetHost(
                        channel.name,
                        tags=(channel.name,),
                        closure_hash=offers[channel.name].closures[host],
                        pubkey=self._declared_key(host),
                    )
                    for channel in channels
                    for host in channel.hosts
                }
            ),
            channels=FrozenMap(
                {channel.name: FleetChannel(_policy_name(channel)) for channel in channels}
            ),
            rollout_policies=FrozenMap(
                {_policy_name(channel): _policy_of(channel) for channel in channels}
            ),
            waves=FrozenMap(
                {
                    channel.name: tuple(
                        _wave_of(channel, wave, offers[channel.name].begins)
                        for wave in range(len(channel.waves))
                    )
                    for channel in channels
                }
            ),
            meta=Meta(at),
            edges=tuple(Edge(first, then) for channel in channels for first, then in channel.edges),
            channel_edges=tuple(
                Edge(gates, channel.name) for channel in channels for gates in channel.after
            ),
            disruption_budgets=tuple(
                DisruptionBudget(
                    Selector(tags=(channel.name,)),
                    channel.max_in_flight,
                    ramp=None if channel.ramp is None else Ramp(*channel.ramp),
                    max_per_minute=channel.per_minute,
                )
                for channel in channels
                if channel.has_budget
            ),
            calendar=self.calendar,
        )

    def _declared_key(self, host: str) -> str | None:
        if host in self._enrolling:
            return None
        if host not in self._declared:
            self._declared[host] = host_key(self._seed, host).public_key.public_key
        return self._declared[host]


def host_key(seed: Seed, hostname: str, number: int = 0) -> SigningKey:
    """Return the key of a host. number: how many it had before."""
    return _key(stream(seed, "key", hostname, *([str(number)] if number else [])))


def _policy_name(channel: ChannelLayout) -> str:
    return f"{POLICY}-{channel.name}"


def _policy_of(channel: ChannelLayout) -> RolloutPolicy:
    policy = channel.policy
    return RolloutPolicy(
        channel.on_health_failure,
        max_failures=policy.tolerance.max_failures,
        max_failure_pct=policy.tolerance.max_failure_pct,
        deadlines=policy.deadlines,
        retry=policy.retry,
        recall=channel.recall,
    )


def _wave_of(channel: ChannelLayout, wave: int, begins: tuple[datetime, ...]) -> Wave:
    own = channel.policy.of_waves[wave] if channel.policy.of_waves else Tolerance()
    return Wave(
        channel.waves[wave],
        channel.soak_minutes,
        not_before=begins[wave] if begins else None,
        max_failures=own.max_failures,
        max_failure_pct=own.max_failure_pct,
        guards=channel.guards_of(wave),
    )


def _sign(manifest: RolloutManifest, key: SigningKey) -> SignedArtefact:
    return sign_artefact(encode_manifest(manifest), key)


def _key(rng: Random) -> SigningKey:
    return SigningKey(rng.randbytes(32))
