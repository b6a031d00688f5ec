"""`nixfleet secrets`: what several people hold. In by standard input, out by standard output, never in a file."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import FILE, load_key
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.signing import MalformedKey, UnsupportedAlgorithm
from nixfleet_proto.trust import TrustedKey
from nixfleet_secrets import (
    SECRET_BYTES_MAX,
    NoRecipients,
    NotASealedSecret,
    SealedSecret,
    SealingError,
    SecretTooLong,
    UnsupportedVersion,
    load_sealed,
    open_secret,
    replace_sealed,
    reseal_secret,
    save_sealed,
    seal_secret,
)

T = TypeVar("T")

_to = click.option(
    "--to",
    "recipients",
    multiple=True,
    required=True,
    type=arguments.public_key,
    metavar="PUBLIC_KEY",
    help="Who can open it: a key, or a file with one; once for each.",
)
_key = click.option(
    "--key",
    "key_file",
    required=True,
    type=FILE,
    help="Your own key (0600), one that it is sealed to.",
)
_sealed_file = click.argument("file", metavar="FILE", type=FILE)


@click.group()
def secrets() -> None:
    """Secrets, sealed to several public keys: any of their holders can open them."""


@secrets.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@_to
def seal(file: Path, recipients: tuple[TrustedKey, ...]) -> None:
    """Seal what standard input brings, byte for byte, into FILE, which must not exist.

    Exit codes: 0 sealed; 1 there is something at FILE already; 2 it cannot be sealed or written.
    """
    secret = sys.stdin.buffer.read(SECRET_BYTES_MAX + 1)
    _done(file, lambda: save_sealed(seal_secret(secret, recipients), file))


@secrets.command("open")
@_sealed_file
@_key
def open_(file: Path, key_file: Path) -> None:
    """Write the secret in FILE to standard output, byte for byte.

    Exit codes: 0 written; 1 it was sealed to others, or was changed; 2 FILE is no sealed secret.
    """
    key = load_key(key_file)
    secret = _done(file, lambda: open_secret(load_sealed(file), key))
    sys.stdout.buffer.write(secret)
    sys.stdout.buffer.flush()


@secrets.command()
@_sealed_file
@_key
@_to
def reseal(file: Path, key_file: Path, recipients: tuple[TrustedKey, ...]) -> None:
    """Seal the secret in FILE again, to these keys and no others. Whoever had opened it before still knows it.

    Exit codes: 0 resealed; 1 it was sealed to others, or was changed; 2 FILE is no sealed secret.
    """
    key = load_key(key_file)

    def work() -> tuple[SealedSecret, SealedSecret]:
        before = load_sealed(file)
        after = reseal_secret(before, key, recipients)
        replace_sealed(after, file)
        return before, after

    before, after = _done(file, work)
    for public_key in sorted({*before.public_keys, *after.public_keys}):
        click.echo(f"{_change(public_key, before, after):12}  {public_key}")


@secrets.command()
@_sealed_file
def show(file: Path) -> None:
    """Show whom the secret in FILE is sealed to.

    Exit codes: 0 shown; 2 FILE is no sealed secret.
    """
    for public_key in _done(file, lambda: load_sealed(file)).public_keys:
        click.echo(public_key)


def _change(public_key: str, before: SealedSecret, after: SealedSecret) -> str:
    if public_key not in after.public_keys:
        return "not any more"
    return "as before" if public_key in before.public_keys else "new"


def _done(file: Path, work: Callable[[], T]) -> T:
    try:
        return work()
    except (NotASealedSecret, UnsupportedVersion, NoRecipients, SecretTooLong) as error:
        raise Unusable(f"{file}: {error}") from error
    except (SealingError, FileExistsError) as error:
        why = error if isinstance(error, SealingError) else "expected nothing there, found a file"
        raise Findings(f"{file}: {why}") from error
    except (MalformedKey, UnsupportedAlgorithm) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error
