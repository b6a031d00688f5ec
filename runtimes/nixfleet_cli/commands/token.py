"""`nixfleet token`: lets hosts in. Used where the org root key is kept, which is nowhere near a control plane."""

import os
import re
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click

from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.codec import encode_signed_token, format_time
from nixfleet_proto.enrollment import BootstrapToken
from nixfleet_proto.signing import InsecureKeyFile, MalformedKeyFile, SigningKey, sign_token
from nixfleet_runtime.kernel.clock import SystemClock

_FINGERPRINT = re.compile(r"[0-9a-fA-F]{64}")
HOURS_DEFAULT = 24.0
HOURS_MAX = 24.0 * 30


@click.group()
def token() -> None:
    """Bootstrap tokens: each lets one host in, once, with the key that it is made out to."""


@token.command()
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="The org root key.",
)
@click.option("--hostname", metavar="NAME", required=True, help="The host, as the fleet names it.")
@click.option(
    "--fingerprint",
    metavar="HEX",
    required=True,
    help="Of the host's key: `nixfleet enroll` on the host, or `nixfleet keys show`, tells it.",
)
@click.option(
    "--hours",
    type=click.FloatRange(0, HOURS_MAX, min_open=True),
    default=HOURS_DEFAULT,
    show_default=True,
    help="How long it is good.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to write the token; without it, to standard output.",
)
def mint(key_file: Path, hostname: str, fingerprint: str, hours: float, out: Path | None) -> None:
    """Make a token, and show the entry that the list of nonces needs for it to be good.

    The entry goes to standard error, so that the token alone can be piped.

    Exit codes: 0 made; 1 others can read the key, or there is something at --out already; 2 a file cannot be
    used, or the fingerprint is none.
    """
    if not hostname:
        raise click.BadParameter("expected the name of a host, found none", param_hint="--hostname")
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
        click.echo(f"the token for {hostname} is in {out}: bring it to the host", err=True)
    for line in _entry(made):
        click.echo(line, err=True)


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
        # The agent wants it to be its owner's alone; and a token that somebody waits for is not written over.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Findings(f"{file}: expected nothing there, found a file") from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(data)


def _entry(made: BootstrapToken) -> Iterator[str]:
    """Yield what lets CI put the token's nonce on the signed list."""
    yield "it is good once its nonce is on the list that CI signs:"
    yield "  [[nonces]]"
    yield f'  nonce = "{made.nonce}"'
    yield f'  hostname = "{made.hostname}"'
    yield f"  expires_at = {format_time(made.expires_at)}"
