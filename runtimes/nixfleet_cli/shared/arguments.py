"""Arguments that several commands share: times, keys and trust files, parsed and refused in one way."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.codec import DecodeError, decode_trust_root, format_time, parse_time
from nixfleet_proto.signing import (
    InsecureKeyFile,
    MalformedKeyFile,
    SigningKey,
    read_public_key,
)
from nixfleet_proto.trust import TrustedKey, TrustRoot
from nixfleet_runtime.storage.regular_file import read_regular_file

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
DIRECTORY: Final = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FILE: Final = click.Path(dir_okay=False, path_type=Path)


def time(text: str) -> datetime:
    """Return the time that `text` is: RFC 3339, in UTC, with `Z`. Raises: BadParameter."""
    try:
        return parse_time(text)
    except DecodeError as error:
        raise click.BadParameter(
            f"expected a time such as 2026-05-16T01:00:00Z, found {text!r}"
        ) from error


def public_key(text: str) -> TrustedKey:
    """Return the ed25519 key that `text` is (hex or OpenSSH), or that the file `text` holds. Raises: BadParameter."""
    key = read_public_key(text)
    # Not `Path.is_file`: that raises for a text that is no path, such as one that is too long.
    if key is None and os.path.isfile(text):  # noqa: PTH113
        content = read_regular_file(Path(text)).decode("ascii", errors="replace")
        key = read_public_key(content.strip())
    if key is None:
        raise click.BadParameter(
            "expected an ed25519 public key (64 hexadecimal digits, or a line that begins with ssh-ed25519) "
            f"or a file that holds one, found {text[:200]!r}"
        )
    return key


def nonblank(_context: click.Context, option: click.Parameter, text: str) -> str:
    """Return `text`. Raises: BadParameter, when there is nothing in it to read."""
    if not text.strip():
        raise click.BadParameter(f"expected a text, found {text!r}", param=option)
    return text


def now() -> datetime:
    """Return the time that the clock of this machine shows, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


at_time: Final = click.option(
    "--at",
    "at_time",
    metavar="TIME",
    type=time,
    default=lambda: format_time(now()),
    show_default="now",
    help="Judge as of this time.",
)
freshness_minutes: Final = click.option(
    "--freshness-minutes",
    metavar="MINUTES",
    default=None,
    show_default="as the release declares",
    type=click.IntRange(1),
    help="A receiver's limit on the age of a signature.",
)


def load_trust(file: Path) -> TrustRoot:
    """Return the trust root in a file. Raises: Findings, Unusable."""
    try:
        return decode_trust_root(read_regular_file(file))
    except DecodeError as error:
        raise Findings(f"{file}: {error}") from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error


def load_key(file: Path) -> SigningKey:
    """Return the private key in a file. Raises: Unusable."""
    try:
        return SigningKey.load(file)
    except (InsecureKeyFile, MalformedKeyFile) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error
