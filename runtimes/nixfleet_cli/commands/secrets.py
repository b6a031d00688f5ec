"""`nixfleet secrets`: sealed files. A secret comes from standard input and goes to standard output, never to a file."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import FILE, load_key
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, printing
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
    help="A key that can open it, or a file with one; repeatable.",
)
_key = click.option(
    "--key",
    "key_file",
    required=True,
    metavar="FILE",
    type=FILE,
    help="Your key (0600), one that it is sealed to.",
)
_sealed_file = click.argument("file", metavar="FILE", type=FILE)


@group()
def secrets() -> None:
    """Seal secrets to several public keys.

    The holder of any of the keys can open them.
    """


@secrets.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@_to
def seal(file: Path, recipients: tuple[TrustedKey, ...]) -> None:
    """Seal standard input into FILE.

    FILE must not exist. Input is sealed byte for byte. Prints nothing.

    Exit codes: 0 success; 1 FILE exists already; 2 it cannot be sealed or written.
    """
    secret = sys.stdin.buffer.read(SECRET_BYTES_MAX + 1)
    _done(file, lambda: save_sealed(seal_secret(secret, recipients), file))


@secrets.command("open")
@_sealed_file
@_key
def open_(file: Path, key_file: Path) -> None:
    """Write the secret in FILE to standard output.

    It is written byte for byte.

    Exit codes: 0 success; 1 sealed to other keys, or altered; 2 FILE is not a sealed secret.
    """
    key = load_key(key_file)
    secret = _done(file, lambda: open_secret(load_sealed(file), key))
    sys.stdout.buffer.write(secret)
    sys.stdout.buffer.flush()


@secrets.command()
@_sealed_file
@_key
@_to
@printing("one object a key, with publicKey and change (added, kept or removed)")
def reseal(output: Output, file: Path, key_file: Path, recipients: tuple[TrustedKey, ...]) -> None:
    """Seal the secret in FILE again, to other keys.

    Only the given keys can open it afterwards. A former holder may still know the secret.

    Exit codes: 0 success; 1 sealed to other keys, or altered; 2 FILE is not a sealed secret.
    """
    key = load_key(key_file)

    def work() -> tuple[SealedSecret, SealedSecret]:
        before = load_sealed(file)
        after = reseal_secret(before, key, recipients)
        replace_sealed(after, file)
        return before, after

    before, after = _done(file, work)
    for public_key in sorted({*before.public_keys, *after.public_keys}):
        change = _change(public_key, before, after)
        output.show({"publicKey": public_key, "change": change}, [f"{change:8}  {public_key}"])


@secrets.command()
@_sealed_file
@printing("one object with publicKeys")
def show(output: Output, file: Path) -> None:
    """Show the public keys that FILE is sealed to.

    Exit codes: 0 success; 2 FILE is not a sealed secret.
    """
    public_keys = _done(file, lambda: load_sealed(file)).public_keys
    output.show({"publicKeys": public_keys}, public_keys)


def _change(public_key: str, before: SealedSecret, after: SealedSecret) -> str:
    if public_key not in after.public_keys:
        return "removed"
    return "kept" if public_key in before.public_keys else "added"


def _done(file: Path, work: Callable[[], T]) -> T:
    try:
        return work()
    except (NotASealedSecret, UnsupportedVersion, NoRecipients, SecretTooLong) as error:
        raise Unusable(f"{file}: {error}") from error
    except (SealingError, FileExistsError) as error:
        why = (
            error
            if isinstance(error, SealingError)
            else "expected no file, found one; it is not overwritten"
        )
        raise Findings(f"{file}: {why}") from error
    except (MalformedKey, UnsupportedAlgorithm) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error
