"""Whether what the control plane says is what was signed. Pure; the engine refuses to act where it is not.

Source: docs/spec/trust.md, The agent trusts the manifest, not the dispatch.
"""

from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.wire import Dispatch
from nixfleet_state_machine.host.state import HostRolloutState


def objection_to_dispatch(
    dispatch: Dispatch, manifest: RolloutManifest, hostname: str
) -> str | None:
    """Return why `dispatch` is not what the signed manifest says of `hostname`, `None` if it is."""
    return _objection(
        "dispatch",
        (dispatch.hostname, dispatch.rollout_id, dispatch.target_closure),
        manifest,
        hostname,
    )


def objection_to_record(
    record: HostRolloutState, manifest: RolloutManifest, hostname: str
) -> str | None:
    """Return why a record that the control plane remembers is not one that the signed manifest allows."""
    return _objection(
        "record", (record.hostname, record.rollout_id, record.target_closure), manifest, hostname
    )


def _objection(
    what: str, said: tuple[str, str, str], manifest: RolloutManifest, hostname: str
) -> str | None:
    said_host, said_rollout_id, said_closure = said
    if said_host != hostname:
        return f"expected a {what} for {hostname}, found one for {said_host}"
    if said_rollout_id != manifest.rollout_id:
        return f"expected the manifest of {said_rollout_id}, found that of {manifest.rollout_id}"
    signed = manifest.target_of(hostname)
    if signed != said_closure:
        return (
            f"the manifest of {manifest.rollout_id} gives {hostname} "
            f"{signed or 'no closure'}, the {what} says {said_closure}"
        )
    return None
