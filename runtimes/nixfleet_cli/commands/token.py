"""`nixfleet token`: bootstrap tokens. Used where the org root key is kept, which is not where a control plane runs."""

import os
import re
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click

from nixfleet_cli.shared.arguments import nonblank
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import note
from nixfleet_proto.codec import encode_signed_token, format_time
from nixfleet_proto.enrollment import BootstrapToken
from nixfleet_proto.signing import InsecureKeyFile, MalformedKeyFile, SigningKey, sign_token
from nixfleet_runtime.config.check import toml_text
from nixfleet_runtime.kernel.clock import SystemClock

_FINGERPRINT = re.compile(r"[0-9a-fA-F]{64}")
HOURS_DEFAULT = 24.0
HOURS_MAX = 24.0 * 30


@group()
def token() -> None:
    """Make bootstrap tokens for new hosts.

    A token admits one host, once, with the key that it names.
    """


@token.command()
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="The org root key (0600).",
)
@click.option(
    "--hostname",
    metavar="NAME",
    required=True,
    callback=nonblank,
    help="The host's name in the fleet.",
)
@click.option(
    "--fingerprint",
    metavar="HEX",
    required=True,
    help="Fingerprint of the host's key; `nixfleet enroll` on the host shows it.",
)
@click.option(
    "--hours",
    metavar="HOURS",
    type=click.FloatRange(0, HOURS_MAX, min_open=True),
    default=HOURS_DEFAULT,
    show_default=True,
    help="How long it is valid.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to write the token; default: standard output.",
)
def mint(key_file: Path, hostname: str, fingerprint: str, hours: float, out: Path | None) -> None:
    """Make and sign a bootstrap token.

    The token is JSON. The entry that the list of nonces needs before the token is accepted goes to standard error, so
    that the token alone can be piped.

    Exit codes: 0 success; 1 others can read the key, or --out exists already; 2 a file cannot be used, or a usage
    error.
    """
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise click.BadParameter(
            f"expected 64 hexadecimal digits, found {len(fingerprint)} characters",
            param_hint="--fingerprint",
        )
    now = SystemClock().now()
    made = BootstrapToken(
        hostname,
        fingerprint.lower(),
        issued_at=now,
        expires_at=now + timedelta(hours=hours),
        nonce=secrets.token_hex(16),
    )
    signed = encode_signed_token(sign_token(made, _key_in(key_file))) + b"\n"
    if out is None:
        click.echo(signed, nl=False)
    else:
        _write(out, signed)
        note(f"wrote the token for {hostname} to {out}: copy it to the host")
    for line in _entry(made):
        note(line)


def _key_in(file: Path) -> SigningKey:
    try:
        return SigningKey.load(file)
    except InsecureKeyFile as error:
        raise Findings(str(error)) from error
    except MalformedKeyFile as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error


def _write(file: Path, data: bytes) -> None:
    try:
        # The agent requires that only its owner can read it; an existing token is not overwritten.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Findings(f"{file}: expected no file, found one; it is not overwritten") from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(data)


def _entry(made: BootstrapToken) -> Iterator[str]:
    """Yield the TOML that puts the token's nonce on the list that CI signs."""
    yield "it is accepted once its nonce is on the list that CI signs:"
    yield "  [[nonces]]"
    yield f'  nonce = "{made.nonce}"'
    yield f"  hostname = {toml_text(made.hostname)}"
    yield f"  expires_at = {format_time(made.expires_at)}"
