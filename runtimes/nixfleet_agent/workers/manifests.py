"""Fetches the manifest of a rollout and verifies it. Nothing that is not `Verified` gets past here."""

from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import verify_manifest
from nixfleet_proto.trust import TrustRoot, Verified
from nixfleet_runtime.clock import Clock
from nixfleet_runtime.transport import Transport, TransportFailed


async def fetch_verified(
    rollout_id: RolloutId,
    transport: Transport,
    trust: TrustRoot,
    clock: Clock,
    freshness_window_minutes: int,
) -> Verified[RolloutManifest]:
    """Return the verified manifest of `rollout_id`.

    Raises: TransportFailed (also when the control plane has none), VerifyError.
    """
    artefact = await transport.fetch_manifest(rollout_id)
    if artefact is None:
        raise TransportFailed(f"the control plane has no manifest of {rollout_id}")
    return verify_manifest(
        artefact,
        trust,
        clock.now(),
        freshness_window_minutes=freshness_window_minutes,
        expected_rollout_id=rollout_id,
    )
