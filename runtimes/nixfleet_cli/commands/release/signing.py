"""How `release make` and `release resign` sign: the options, the signer, and what must be believed afterwards."""

import shlex
from datetime import datetime
from pathlib import Path

import click
from attrs import frozen

from nixfleet_cli.commands.release.shared import refused_by_the_fleet
from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import FILE, load_key
from nixfleet_cli.shared.failures import Findings
from nixfleet_proto.signing import Signer
from nixfleet_proto.trust import TrustedKey, TrustRoot
from nixfleet_release import Release
from nixfleet_release.sign.signing_hook import SigningHook
from nixfleet_release.sign.verify import verify_release

key_option = click.option(
    "--key", "key_file", type=FILE, metavar="FILE", help="Sign with the key in FILE (0600)."
)
hook_option = click.option(
    "--sign-with", "hook", metavar="COMMAND", help="Instead of --key: sign with a command."
)
public_key_option = click.option(
    "--public-key",
    metavar="PUBLIC_KEY",
    type=arguments.public_key,
    help="With --sign-with: its key; default: the trust file's current.",
)
signed_at_option = click.option(
    "--signed-at", metavar="TIME", type=arguments.time, help="The time of signing; default: now."
)


@frozen
class Signing:
    """The signer, the time, and the trust root that the result is verified against."""

    signer: Signer
    trust: TrustRoot
    signed_at: datetime


def signer_of(
    key_file: Path | None, hook: str | None, public_key: TrustedKey | None, trust: TrustRoot
) -> Signer:
    """Return the signer that the options name. Raises: click.UsageError; what `load_key` raises."""
    if (key_file is None) == (hook is None):
        raise click.UsageError("expected one of --key and --sign-with")
    if key_file is not None:
        return load_key(key_file)
    command = tuple(shlex.split(hook or ""))
    if not command:
        raise click.UsageError("expected --sign-with to name a command")
    return SigningHook(command, public_key or trust.ci_release_key.current)


def require_trusted(signing: Signing) -> None:
    """Return if the fleet trusts the signer's key. Raises: Findings."""
    # Before anything is built and before a device signs: the verification at the end would be too late.
    known = [key.public_key for key in signing.trust.ci_release_key.keys]
    found = signing.signer.public_key.public_key
    if found not in known:
        raise Findings(
            f"the fleet would refuse this release: expected a key of the trust file ({', '.join(known)}), "
            f"found {found}"
        )


def require_accepted(made: Release, signing: Signing, before: Release | None) -> None:
    """Return if the fleet would believe `made` in place of `before`. Raises: Findings, with each refusal."""
    verdict = verify_release(
        made,
        signing.trust,
        signing.signed_at,
        freshness_window_minutes=None,
        before=before,
    )
    if verdict.refused:
        raise refused_by_the_fleet(verdict.refused)
