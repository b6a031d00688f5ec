"""`nixfleet release resign`: the same content, signed again."""

from datetime import datetime, timedelta
from pathlib import Path

import click

from nixfleet_cli.commands.release.shared import RELEASE, content_of, load_made, trust_option
from nixfleet_cli.commands.release.signing import (
    Signing,
    hook_option,
    key_option,
    public_key_option,
    require_accepted,
    require_trusted,
    signed_at_option,
    signer_of,
)
from nixfleet_cli.shared.arguments import load_trust, now
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, printing, shown_time
from nixfleet_proto.codec import DecodeError, parse_json
from nixfleet_proto.codec.artefact import meta_of
from nixfleet_proto.trust import TrustedKey, TrustRoot
from nixfleet_release import Release, save_release
from nixfleet_release.sign.release import sign_again
from nixfleet_release.sign.signing_hook import SigningHookError
from nixfleet_release.sign.verify import verify_release


@command()
@click.argument("directory", type=RELEASE)
@trust_option
@key_option
@hook_option
@public_key_option
@signed_at_option
@click.option(
    "--if-due", is_flag=True, help="Only if a signing_interval_minutes has passed since the last."
)
@printing("one object with directory, rollouts and signedAt (null if it is not due)")
def resign(
    output: Output,
    directory: Path,
    trust_file: Path,
    key_file: Path | None,
    hook: str | None,
    public_key: TrustedKey | None,
    signed_at: datetime | None,
    if_due: bool,
) -> None:
    """Sign the release in DIRECTORY anew, with the same content.

    Signatures are accepted for a limited time (freshness_window_minutes). Run this from a timer when no new release is
    due, with --if-due as often as you like. No host moves. The release must be signed by a key of the trust file; its
    age does not matter. The write is atomic.

    Exit codes: 0 success; 1 the release is not signed by a trusted key, nothing written; 2 a file cannot be read,
    signed or written, or a usage error.
    """
    trust = load_trust(trust_file)
    signing = Signing(
        signer_of(key_file, hook, public_key, trust),
        trust,
        now() if signed_at is None else signed_at,
    )
    require_trusted(signing)
    before = load_made(directory)
    due_at = _due_at(before, directory) if if_due else None
    if due_at is not None and signing.signed_at < due_at:
        output.show(
            {"directory": directory, "rollouts": list(before.manifests), "signedAt": None},
            [f"{directory}: not due before {shown_time(due_at)}"],
        )
        return
    try:
        _require_signed(before, trust)
        made = sign_again(before, signed_at=signing.signed_at, key=signing.signer)
        require_accepted(made, signing, before)
        save_release(made, directory)
    except SigningHookError as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error
    output.show(
        {
            "directory": directory,
            "rollouts": list(made.manifests),
            "signedAt": signing.signed_at,
        },
        [f"{directory}: {', '.join(made.manifests)}: signed anew"],
    )


def _require_signed(release: Release, trust: TrustRoot) -> None:
    """Require that a release was in order when it was signed, however long ago that is."""
    try:
        signed_at = meta_of(parse_json(release.fleet.body)).signed_at
        verdict = verify_release(release, trust, signed_at or now(), freshness_window_minutes=None)
    except DecodeError as error:
        raise Findings(*lines_of(error, "the release")) from error
    if verdict.refused:
        raise Findings(
            "this release is not signed anew, and nothing was written:",
            *(f"  {each}" for each in verdict.refused),
        )


def _due_at(release: Release, directory: Path) -> datetime | None:
    """Return when a release is to be signed again, by the shortest interval of its channels; `None` for at once."""
    fleet = content_of(directory, release).fleet
    intervals = [it.signing_interval_minutes for it in fleet.channels.values() if it.enabled]
    signed_at = fleet.meta.signed_at
    if signed_at is None or not intervals:
        return signed_at
    return signed_at + timedelta(minutes=min(intervals))
