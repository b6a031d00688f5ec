"""Checks the control plane's dispatches and records against the signed manifest. Pure; the engine acts on no other.

Source: docs/spec/trust.md, The agent trusts the manifest, not the dispatch.
"""

from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.wire import Dispatch
from nixfleet_state_machine.host.state import HostRolloutState


def objection_to_dispatch(
    dispatch: Dispatch, manifest: RolloutManifest, hostname: str
) -> str | None:
    """Return why `dispatch` differs from the signed manifest for `hostname`, `None` if it agrees."""
    return _objection(
        "dispatch",
        (dispatch.hostname, dispatch.rollout_id, dispatch.target_closure),
        manifest,
        hostname,
    )


def objection_to_record(
    record: HostRolloutState, manifest: RolloutManifest, hostname: str
) -> str | None:
    """Return why a record of the control plane differs from the signed manifest, `None` if it agrees."""
    return _objection(
        "record", (record.hostname, record.rollout_id, record.target_closure), manifest, hostname
    )


def _objection(
    what: str, claimed: tuple[str, str, str], manifest: RolloutManifest, hostname: str
) -> str | None:
    host, rollout_id, closure = claimed
    if host != hostname:
        return f"expected a {what} for {hostname}, found one for {host}"
    if rollout_id != manifest.rollout_id:
        return f"expected the manifest of {rollout_id}, found that of {manifest.rollout_id}"
    signed = manifest.target_of(hostname)
    if signed != closure:
        return (
            f"expected the closure {signed or 'none'} that the manifest of {manifest.rollout_id} "
            f"gives {hostname}, found {closure} in the {what}"
        )
    return None
