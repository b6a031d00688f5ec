"""Describes the changes between two releases, before the new one is published. Pure: the caller reads closures.

It compares contents, not signatures. A host that keeps its closure while its channel moves is listed too: it is pinned,
or nothing changed for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.codec import (
    HealthCheckSet,
    decode_bootstrap_nonces,
    decode_fleet,
    decode_manifest,
    decode_revocations,
    format_time,
)
from nixfleet_proto.enrollment import BootstrapNonce, Revocation
from nixfleet_proto.fleet import DisruptionBudget, Edge, FleetResolved, RolloutPolicy, Wave
from nixfleet_proto.health_check import kind_of
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.policy import Deadlines, Retry, Tolerance
from nixfleet_release.check.outlook import BlastRadius, blast_radius
from nixfleet_runtime.documents.problems import listed
from nixfleet_runtime.releases.amendment import SignedTerms, differences
from nixfleet_runtime.releases.directory import Release
from nixfleet_state_machine.planner.guards.words import declared_words
from nixfleet_state_machine.planner.holds.words import entry_words
from nixfleet_state_machine.planner.pace.words import pace_words
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.scopes.selector import summary

ReadChecks: TypeAlias = Callable[[str], HealthCheckSet | None]
"""Returns the health checks of a closure by its name, `None` if the closure is not on this machine."""

_HASH_SHOWN = 8


@frozen
class ReleaseContent:
    """The decoded content of a release, for comparison."""

    fleet: FleetResolved
    manifests: Mapping[RolloutId, RolloutManifest]
    revocations: Mapping[str, Revocation]
    nonces: Mapping[str, BootstrapNonce]

    @classmethod
    def by(cls, release: Release) -> "ReleaseContent":
        """Return the content of `release`. Nothing is verified. Raises: DecodeError."""
        revoked = (
            decode_revocations(release.revocations.body).revocations if release.revocations else ()
        )
        nonces = decode_bootstrap_nonces(release.nonces.body).nonces if release.nonces else ()
        return cls(
            decode_fleet(release.fleet.body),
            {id_: decode_manifest(signed.body) for id_, signed in release.manifests.items()},
            {revocation.hostname: revocation for revocation in revoked},
            {nonce.nonce: nonce for nonce in nonces},
        )


def changes(old: ReleaseContent, new: ReleaseContent, read_checks: ReadChecks) -> tuple[str, ...]:
    """Return the changes from `old` to `new` as lines under headings; empty if there are none."""
    sections = {
        "rollouts": _rollouts(old, new),
        "hosts": _hosts(old, new),
        "waves": _waves(old.fleet, new.fleet),
        "policies": _policies(old.fleet, new.fleet),
        "worst case": _worst(old, new),
        "probes": _probes(old.fleet, new.fleet, read_checks),
        "order and budgets": _limits(old.fleet, new.fleet),
        "calendar": _calendar(old.fleet, new.fleet),
        "revocations": _revocations(old.revocations, new.revocations),
        "nonces": _nonces(old.nonces, new.nonces),
    }
    return tuple(_under_headings(sections))


def wave_sizes(release: Release) -> Mapping[RolloutId, Sequence[int]]:
    """Return the number of hosts in each wave, by rollout. Raises: DecodeError."""
    manifests = ReleaseContent.by(release).manifests
    return {
        rollout_id: _sizes([host.wave_index for host in manifest.host_set])
        for rollout_id, manifest in sorted(manifests.items())
    }


def blast_radii(content: ReleaseContent) -> Mapping[RolloutId, BlastRadius]:
    """Return what each rollout of a release can cost at worst."""
    return {
        rollout_id: blast_radius(
            RolloutTerms.of_values(manifest, content.fleet),
            manifest.rollout_policy.on_health_failure,
        )
        for rollout_id, manifest in sorted(content.manifests.items())
    }


def terms_lines(deadlines: Deadlines, retry: Retry) -> Iterator[str]:
    """Yield a line for the deadlines, and one for the attempts, where there are any."""
    if deadlines.is_declared:
        yield f"deadlines: {_deadlines(deadlines)}"
    if retry.attempts > 1:
        yield f"attempts: {_retry(retry)}"


def _deadlines(deadlines: Deadlines) -> str:
    stages = deadlines.by_stage().items()
    return ", ".join(f"{stage} {it.minutes} min then {it.then}" for stage, it in stages) or "none"


def _retry(retry: Retry) -> str:
    if retry.attempts == 1:
        return "1"
    waits = f"the second {retry.backoff_seconds} s after a failure"
    return f"{retry.attempts}, {waits}, each wait {retry.factor} times the last"


def _tolerance(tolerance: Tolerance) -> str:
    share = None if tolerance.max_failure_pct is None else f"{tolerance.max_failure_pct} %"
    number = None if tolerance.max_failures is None else str(tolerance.max_failures)
    return " and ".join(filter(None, (number, share))) or "none"


def steering_lines(content: ReleaseContent) -> Mapping[str, Sequence[str]]:
    """Return what lets hosts begin, in words: the guards by rollout, and the calendar under `calendar`."""
    guarded = {
        str(rollout_id): [
            f"wave {index} begins when: {words}"
            for index, wave in enumerate(content.fleet.waves.get(rollout_id.channel, ()))
            for words in declared_words(wave.guards)
        ]
        for rollout_id in sorted(content.manifests)
    }
    calendar = [f"{name}: {text}" for name, text in _calendar_lines(content.fleet).items()]
    return {what: lines for what, lines in (*guarded.items(), ("calendar", calendar)) if lines}


def _worst(old: ReleaseContent, new: ReleaseContent) -> Iterator[str]:
    before = {rollout_id.channel: radius for rollout_id, radius in blast_radii(old).items()}
    for rollout_id, now in blast_radii(new).items():
        was = before.get(rollout_id.channel)
        if was is not None and was != now:
            yield f"{rollout_id.channel}: {now}; before: {was.worst} of {was.hosts}"


def _sizes(indices: Sequence[int]) -> Sequence[int]:
    return [indices.count(wave) for wave in range(max(indices, default=-1) + 1)]


def short(closure: str | None) -> str:
    """Return a closure's name with its hash shortened."""
    if closure is None:
        return "no closure"
    digest, dash, name = closure.partition("-")
    return f"{digest[:_HASH_SHOWN]}{dash}{name}"


def _under_headings(sections: Mapping[str, Iterator[str]]) -> Iterator[str]:
    for heading, lines in sections.items():
        section = tuple(lines)
        if section:
            yield heading
            yield from (f"  {line}" for line in section)


def _rollouts(old: ReleaseContent, new: ReleaseContent) -> Iterator[str]:
    before = {rollout_id.channel: rollout_id for rollout_id in old.manifests}
    after = {rollout_id.channel: rollout_id for rollout_id in new.manifests}
    for channel in sorted(before.keys() | after.keys()):
        was, now = before.get(channel), after.get(channel)
        if now is None:
            declared = new.fleet.channels.get(channel)
            why = "is removed" if declared is None or declared.enabled else "is disabled"
            yield f"{was} {why}: an open rollout continues, and none follows"
        elif was is None:
            yield f"{now} is the first rollout of channel {channel}"
        elif was != now:
            yield f"{now} succeeds {was}"
        else:
            if _terms(old.manifests[was]) != _terms(new.manifests[now]):
                yield from _amended(now, old, new)
            yield from _author(old.manifests[was], new.manifests[now])


def _amended(rollout_id: RolloutId, old: ReleaseContent, new: ReleaseContent) -> Iterator[str]:
    before, after = (
        SignedTerms(
            it.manifests[rollout_id], RolloutTerms.of_values(it.manifests[rollout_id], it.fleet)
        )
        for it in (old, new)
    )
    different = "; ".join(map(str, differences(before, after)))
    if different:
        yield (
            f"{rollout_id} changes under the same ref in more than its hosts: {different}. It is refused: "
            "use another ref"
        )
        return
    joined = sorted(after.terms.targets.keys() - before.terms.targets.keys())
    for wave in sorted({after.terms.wave_of.get(host, 0) for host in joined}):
        hosts = (host for host in joined if after.terms.wave_of.get(host, 0) == wave)
        yield f"{rollout_id} is amended: wave {wave} is joined by {listed(hosts)}"
    left = before.terms.targets.keys() - after.terms.targets.keys()
    if left:
        yield f"{rollout_id} is amended: it is left by {listed(left)}"


def _author(old: RolloutManifest, new: RolloutManifest) -> Iterator[str]:
    was, now = old.meta.author, new.meta.author
    if was == now:
        return
    if now is None:
        yield f"{new.rollout_id} names no author any longer, so {was} may approve it"
        return
    before = "" if was is None else f" instead of {was}"
    yield (
        f"{new.rollout_id} names {now} as its author{before}: {now} does not approve it, and if {now} has approved a "
        "wave to come, all guards are asked anew"
    )


def _terms(manifest: RolloutManifest) -> object:
    return (
        manifest.host_set,
        manifest.rollout_policy,
        manifest.wave_soak_minutes,
        manifest.disruption_budgets,
    )


def _hosts(old: ReleaseContent, new: ReleaseContent) -> Iterator[str]:
    for name in sorted(old.fleet.hosts.keys() | new.fleet.hosts.keys()):
        was, now = old.fleet.hosts.get(name), new.fleet.hosts.get(name)
        if now is None:
            yield f"{name} is removed: it keeps its closure and gets no more dispatches"
        elif was is None:
            closure = short(now.closure_hash) if now.enabled else "no rollout: it is disabled"
            yield f"{name} is added to channel {now.channel} with {closure}"
        else:
            if was.channel != now.channel:
                yield f"{name} changes from channel {was.channel} to {now.channel}"
            if was.enabled and not now.enabled:
                yield f"{name} is disabled: it keeps its closure and gets no more dispatches"
            elif now.enabled and not was.enabled:
                yield f"{name} is enabled again, with {short(now.closure_hash)}"
            elif not now.enabled or _is_silent(now.channel, new):
                pass  # it has no closure while it, or its channel, is disabled
            elif was.closure_hash != now.closure_hash:
                yield f"{name} moves from {short(was.closure_hash)} to {short(now.closure_hash)}"
            elif _moves(now.channel, old, new):
                yield f"{name} keeps {short(now.closure_hash)} while {now.channel} moves"
            if was.pubkey != now.pubkey:
                yield (
                    f"{name} has another public key"
                    if now.pubkey
                    else f"{name} has no public key any longer"
                )


def _is_silent(channel: str, content: ReleaseContent) -> bool:
    declared = content.fleet.channels.get(channel)
    return declared is not None and not declared.enabled


def _moves(channel: str, old: ReleaseContent, new: ReleaseContent) -> bool:
    refs = [{id_ for id_ in side.manifests if id_.channel == channel} for side in (old, new)]
    return refs[0] != refs[1]


def _waves(old: FleetResolved, new: FleetResolved) -> Iterator[str]:
    for channel in sorted(old.channels.keys() & new.channels.keys()):
        before, after = old.waves.get(channel, ()), new.waves.get(channel, ())
        for index in range(max(len(before), len(after))):
            was = before[index] if index < len(before) else None
            now = after[index] if index < len(after) else None
            if was != now:
                yield f"{channel}, wave {index}: {_wave(now)}; before: {_wave(was)}"


def _wave(wave: Wave | None) -> str:
    if wave is None:
        return "none"
    begins = "" if wave.not_before is None else f", not before {format_time(wave.not_before)}"
    own = wave.tolerance
    may_fail = f", {_tolerance(own)} may fail" if own.is_declared else ""
    guards = "".join(f", {words}" for words in declared_words(wave.guards))
    return f"{listed(wave.hosts)}, soak {wave.soak_minutes} min{begins}{may_fail}{guards}"


def _policies(old: FleetResolved, new: FleetResolved) -> Iterator[str]:
    for channel, now in sorted(new.channels.items()):
        was = old.channels.get(channel)
        if was is None:
            continue
        if was.enabled != now.enabled:
            yield f"{channel} is {'enabled again' if now.enabled else 'disabled'}"
        if was.rollout_policy != now.rollout_policy:
            yield f"{channel} uses policy {now.rollout_policy} instead of {was.rollout_policy}"
        if was.on_drift != now.on_drift:
            yield f"{channel}: on drift {now.on_drift} instead of {was.on_drift}"
        if was.freshness_window != now.freshness_window:
            yield (
                f"{channel}: signatures are valid for {now.freshness_window} minutes instead of "
                f"{was.freshness_window}"
            )
    for name in sorted(old.rollout_policies.keys() | new.rollout_policies.keys()):
        yield from _policy(name, old.rollout_policies.get(name), new.rollout_policies.get(name))


def _policy(name: str, was: RolloutPolicy | None, now: RolloutPolicy | None) -> Iterator[str]:
    if was is None or now is None:
        yield f"{name} is {'removed' if now is None else 'new'}"
        return
    shown = {
        "on failure": (was.on_health_failure, now.on_health_failure),
        "hosts of a wave that may fail": (_tolerance(was.tolerance), _tolerance(now.tolerance)),
        "deadlines": (_deadlines(was.deadlines), _deadlines(now.deadlines)),
        "attempts": (_retry(was.retry), _retry(now.retry)),
        "recall": (was.recall, now.recall),
    }
    for what, (before, after) in shown.items():
        if before != after:
            yield f"{name}: {what} {after} instead of {before}"
    if (was.waves, was.strategy, was.health_gate) != (now.waves, now.strategy, now.health_gate):
        yield f"{name} has other waves"


def _probes(old: FleetResolved, new: FleetResolved, read_checks: ReadChecks) -> Iterator[str]:
    unseen: set[str] = set()
    for name, host in sorted(new.hosts.items()):
        was = old.hosts[name].closure_hash if name in old.hosts else None
        now = host.closure_hash
        if was is None or now is None or was == now:
            continue
        before, after = read_checks(was), read_checks(now)
        if before is None or after is None:
            unseen.add(name)
        else:
            yield from (f"{name}: {change}" for change in _checks(before, after))
    if unseen:
        yield f"not compared, because the closures are not on this machine: {listed(unseen)}"


def _checks(before: HealthCheckSet, after: HealthCheckSet) -> Iterator[str]:
    for check in sorted(before.keys() | after.keys()):
        was, now = before.get(check), after.get(check)
        if now is None:
            yield f"{check} is removed"
        elif was is None:
            yield f"{check} ({kind_of(now)}, {now.mode}) is new"
        elif was.mode != now.mode:
            yield f"{check} is {now.mode} instead of {was.mode}"
        elif was != now:
            yield f"{check} ({kind_of(now)}, {now.mode}) is changed"


def _limits(old: FleetResolved, new: FleetResolved) -> Iterator[str]:
    before = {*old.edges, *old.channel_edges}
    after = {*new.edges, *new.channel_edges}
    yield from (f"{_edge(edge)}: new" for edge in sorted(after - before, key=_edge))
    yield from (f"{_edge(edge)}: removed" for edge in sorted(before - after, key=_edge))
    limits_before = _limits_by_selector(old)
    limits_after = _limits_by_selector(new)
    for budget in sorted(limits_before.keys() | limits_after.keys()):
        was, now = limits_before.get(budget, "no limit"), limits_after.get(budget, "no limit")
        if was != now:
            yield f"in flight of {budget}: {now} instead of {was}"


def _limits_by_selector(fleet: FleetResolved) -> dict[str, str]:
    return {summary(budget.selector): _limit(budget) for budget in fleet.disruption_budgets}


def _calendar(old: FleetResolved, new: FleetResolved) -> Iterator[str]:
    before, after = _calendar_lines(old), _calendar_lines(new)
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None:
            yield f"new: {name}: {now}"
        elif now is None:
            yield f"gone: {name}: {was}"
        elif was != now:
            yield f"{name}: {now}, instead of {was}"


def _calendar_lines(fleet: FleetResolved) -> dict[str, str]:
    return {entry.name: entry_words(entry) for entry in fleet.calendar}


def _edge(edge: Edge) -> str:
    return f"{edge.gates} before {edge.gated}"


def _limit(budget: DisruptionBudget) -> str:
    share = None if budget.max_in_flight_pct is None else f"{budget.max_in_flight_pct} %"
    number = None if budget.max_in_flight is None else str(budget.max_in_flight)
    limit = " and ".join(filter(None, (number, share))) or "any number"
    return limit + pace_words(budget.ramp, budget.max_per_minute)


def _revocations(old: Mapping[str, Revocation], new: Mapping[str, Revocation]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if now is None:
            yield f"{name} is no longer revoked: its enrolled key is valid again"
        elif was is None or was.not_before != now.not_before:
            why = f" ({now.reason})" if now.reason else ""
            yield f"{name} is revoked until it enrolls at or after {format_time(now.not_before)}{why}"


def _nonces(old: Mapping[str, BootstrapNonce], new: Mapping[str, BootstrapNonce]) -> Iterator[str]:
    for nonce in sorted(old.keys() | new.keys()):
        was, now = old.get(nonce), new.get(nonce)
        if now is None and was is not None:
            yield f"{was.hostname} can no longer enroll with nonce {nonce}"
        elif now is not None and now != was:
            yield f"{now.hostname} can enroll with nonce {nonce} until {format_time(now.expires_at)}"
