"""`nixfleet keys`: one file each, and only its public half is shown."""

from collections.abc import Iterator
from errno import EEXIST
from pathlib import Path

import click

from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, printing
from nixfleet_proto.codec import encode_trust_root, parse_json
from nixfleet_proto.codec.json_text import canonical_bytes
from nixfleet_proto.signing import (
    InsecureKeyFile,
    MalformedKeyFile,
    SigningKey,
    fingerprint_of,
    openssh_line,
    read_public_key,
)
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustedKey, TrustRoot
from nixfleet_runtime.storage.regular_file import read_regular_file

_file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
_operator_option = click.option(
    "--operator", metavar="NAME", default="NAME", help="The operator's name, for an operator's key."
)


@group()
def keys() -> None:
    """Make and show keys.

    A key is one file (0600). Any key can be a host's, an operator's, CI's or the organisation's.
    """


@keys.command()
@_file_argument
@_operator_option
@printing("one object with publicKey and fingerprint")
def new(output: Output, file: Path, operator: str) -> None:
    """Make a new key in FILE and show its public half.

    The public half is also written to FILE.pub, as OpenSSH writes it: hand that file on. Neither may exist.

    Exit codes: 0 success; 1 FILE or FILE.pub exists already; 2 it cannot be written.
    """
    key, public = SigningKey.generate(), file.with_name(f"{file.name}.pub")
    try:
        for each in (file, public):
            if each.exists():
                raise FileExistsError(EEXIST, "exists", str(each))
        key.save(file)
        with public.open("x", encoding="ascii") as opened:
            opened.write(f"{openssh_line(key.public_key)}\n")
    except FileExistsError as error:
        raise Findings(
            f"{error.filename}: expected no file, found one; a key is never overwritten"
        ) from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error
    _show(output, key.public_key, operator)


@keys.command()
@_file_argument
@_operator_option
@printing("one object with publicKey and fingerprint")
def show(output: Output, file: Path, operator: str) -> None:
    """Show the public half of the key in FILE.

    FILE holds a private key, or a public one in hex or OpenSSH form. Shows the public key, its fingerprint, and the
    lines that a fleet declaration or a trust file needs.

    Exit codes: 0 success; 1 others can read the private key; 2 FILE holds no key.
    """
    _show(output, _public_key_in(file), operator)


def _public_key_in(file: Path) -> TrustedKey:
    try:
        text = read_regular_file(file).decode(errors="replace")
        # OpenSSH's public keys are unmistakable; 64 digits may be either, and a private one is private.
        if text.startswith("ssh-"):
            public = read_public_key(text)
            if public is None:
                raise Unusable(f"{file}: expected an ed25519 key, found another kind")
            return public
        return SigningKey.load(file).public_key
    except InsecureKeyFile as error:
        raise Findings(str(error)) from error
    except MalformedKeyFile as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error


def _show(output: Output, key: TrustedKey, operator: str) -> None:
    value = {"publicKey": key.public_key, "fingerprint": fingerprint_of(key)}
    output.show(value, _lines(key, operator))


def _lines(key: TrustedKey, operator: str) -> Iterator[str]:
    """Yield the key, and the text with which each file that needs it names it."""
    named = Operator(operator, key, OperatorRole.OPERATE)
    trust = parse_json(encode_trust_root(TrustRoot(KeySlot(key), operators=(named,))), "trust file")
    assert isinstance(trust, dict)
    slot = canonical_bytes(trust["ciReleaseKey"]).decode()
    yield f"public key   {key.public_key}"
    yield f"fingerprint  {fingerprint_of(key)}"
    yield ""
    yield "For a host: mint a token for its fingerprint, or put into fleet.toml, under the host,"
    yield f'  pubkey = "{key.public_key}"'
    yield "For CI, the organisation or an operator: put into the trust file one of"
    yield f'  "ciReleaseKey":{slot}'
    yield f'  "orgRootKey":{slot}'
    yield f'  "operators":{canonical_bytes(trust["operators"]).decode()}'
