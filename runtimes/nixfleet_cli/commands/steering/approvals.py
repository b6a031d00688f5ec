"""`nixfleet operator approve|deny|promote`: statements on a wave, signed here, where the operator's key is."""

from pathlib import Path

import click

from nixfleet_cli.commands.steering.session import (
    Session,
    asks,
    reason_option,
    rollout_ids,
    suggesting,
)
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.approval import Decision
from nixfleet_runtime.http import paths
from nixfleet_state_machine.rollout.state import RolloutState

_rollout = click.argument("rollout", metavar="ROLLOUT")
_wave = click.option(
    "--wave",
    type=click.IntRange(min=0),
    metavar="N",
    help="The wave; default: the next one.",
)
_manifest = click.option(
    "--manifest",
    "manifest_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The manifest that you have read; default: the one that the control plane says is in force.",
)
_SHAPE = "one object with command, rolloutId, wave, manifestHash, reason, note and text"


@command()
@_rollout
@_wave
@_manifest
@reason_option
@asks(_SHAPE)
def approve(
    session: Session, rollout: str, wave: int | None, manifest_file: Path | None, reason: str
) -> None:
    """Approve the next wave of ROLLOUT.

    The statement is signed with your key, over the rollout, the wave and the hash of the manifest. The wave begins when
    enough operators have approved, the wave before is done, and its other guards are satisfied.
    """
    _state(session, Decision.APPROVE, rollout, wave, manifest_file, reason)


@command()
@_rollout
@_wave
@_manifest
@reason_option
@asks(_SHAPE)
def deny(
    session: Session, rollout: str, wave: int | None, manifest_file: Path | None, reason: str
) -> None:
    """Deny the next wave of ROLLOUT.

    The rollout halts at once, whoever approved before. After `clear` all guards of the wave are asked anew; another
    release needs none of it.
    """
    _state(session, Decision.DENY, rollout, wave, manifest_file, reason)


@command()
@_rollout
@_wave
@_manifest
@reason_option
@asks(_SHAPE)
def promote(
    session: Session, rollout: str, wave: int | None, manifest_file: Path | None, reason: str
) -> None:
    """Waive what may be waived of the next wave of ROLLOUT.

    These are the ones that its manifest lists as waivable. What hosts prove by themselves, their soak and their probes,
    is waived by nobody.
    """
    _state(session, Decision.PROMOTE, rollout, wave, manifest_file, reason)


def _state(
    session: Session,
    decision: Decision,
    rollout: str,
    wave: int | None,
    manifest_file: Path | None,
    reason: str,
) -> None:
    from nixfleet_runtime.http.approvals import APPROVAL_TAKEN, SIGNED_APPROVAL

    rollout = session.current_rollout(rollout)
    found = next((each for each in session.rollouts() if each.rollout_id == rollout), None)
    if found is None:
        raise suggesting(Findings(f"no rollout {rollout} exists"), rollout, rollout_ids(session))
    if found.state is RolloutState.ABORTED:
        raise Findings(f"expected {rollout} to go on, found it {found.state}: release another ref")
    if found.guards is None:
        raise Findings(f"expected a wave of {rollout} to come that is guarded, found none")
    guards = found.guards
    manifest_hash = guards.manifest_hash if manifest_file is None else _hash_of(manifest_file)
    stated_wave = guards.wave if wave is None else wave
    if session.is_preview:
        _preview(session, decision, rollout, guards.wave if wave is None else wave)
        return
    signed = session.signed(RolloutId(rollout), stated_wave, manifest_hash, decision, reason)
    path = paths.rollout_path(rollout, "/approvals")
    taken = session.ask(path, SIGNED_APPROVAL.encode(signed), APPROVAL_TAKEN)
    value: dict[str, object] = {
        "command": decision.value,
        "rolloutId": rollout,
        "wave": stated_wave,
        "manifestHash": manifest_hash,
        "reason": reason,
        "note": taken.note,
    }
    value["text"] = said = taken.note or _done(session, decision, rollout, stated_wave)
    session.output.show(value, [said])


def _preview(session: Session, decision: Decision, rollout: str, wave: int) -> None:
    from nixfleet_runtime.http.previews import STATEMENT, StatementBody

    path = paths.rollout_path(rollout, "/approvals")
    session.preview(path, STATEMENT.encode(StatementBody(wave, decision)))


def _done(session: Session, decision: Decision, rollout: str, wave: int) -> str:
    """Return what the statement did, and what the wave waits for now."""
    where = f"wave {wave} of {rollout}"
    if decision is Decision.DENY:
        return f"{where} is denied: the rollout halts"
    found = next((each for each in session.rollouts() if each.rollout_id == rollout), None)
    if found is not None and found.current_wave >= wave:
        return f"{where} has begun"
    guards = None if found is None else found.guards
    lacking = [] if guards is None or guards.wave != wave else guards.lacking
    done = "your approval" if decision is Decision.APPROVE else "your promotion"
    if lacking:
        return f"{done} of {where} is taken; it waits for: {'; '.join(lacking)}"
    return f"{done} of {where} is taken; it begins when the wave before it is done"


def _hash_of(file: Path) -> str:
    from nixfleet_proto.codec import DecodeError
    from nixfleet_proto.signing import artefact_hash
    from nixfleet_proto.signing.refusal import VerifyError

    try:
        return artefact_hash(file.read_bytes())
    except OSError as error:
        raise click.UsageError(f"--manifest: {error}") from error
    except (DecodeError, VerifyError, ValueError) as error:
        raise Findings(f"{file}: expected a manifest: {error}") from error
