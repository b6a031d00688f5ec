"""`nixfleet keys`: keys of hosts, operators, CI and the organisation, and what other files want to see of them.

A private key is never shown, only its public half.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.codec import encode_trust_root, parse_json
from nixfleet_proto.codec.json_text import canonical_bytes
from nixfleet_proto.signing import (
    InsecureKeyFile,
    MalformedKeyFile,
    SigningKey,
    fingerprint_of,
    read_public_key,
)
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustedKey, TrustRoot

_file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
_operator_option = click.option(
    "--operator", metavar="NAME", default="NAME", help="Whose key it is, if an operator's."
)


@click.group()
def keys() -> None:
    """Keys: one file each, 0600. Any of them can be a host's, an operator's, CI's or the organisation's."""


@keys.command()
@_file_argument
@_operator_option
def new(file: Path, operator: str) -> None:
    """Make a new key in FILE, which must not exist, and show its public half.

    Exit codes: 0 made; 1 there is something at FILE already; 2 it cannot be written there.
    """
    key = SigningKey.generate()
    try:
        key.save(file)
    except FileExistsError as error:
        raise Findings(
            f"{file}: expected nothing there, found a file: a key is never written over another"
        ) from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error
    _show(key.public_key, operator)


@keys.command()
@_file_argument
@_operator_option
def show(file: Path, operator: str) -> None:
    """Show the public half of the key in FILE: a private key, or a public one in hex or as OpenSSH writes it.

    Exit codes: 0 shown; 1 others can read the private key; 2 FILE holds no key.
    """
    _show(_public_key_in(file), operator)


def _public_key_in(file: Path) -> TrustedKey:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
        # OpenSSH's public keys look like nothing else; 64 digits may be either, and a private one is private.
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


def _show(key: TrustedKey, operator: str) -> None:
    for line in _told(key, operator):
        click.echo(line)


def _told(key: TrustedKey, operator: str) -> Iterator[str]:
    """Yield what is to be known of `key`, and what makes it somebody's, spelt as the files that want it spell it."""
    who = Operator(operator, key, OperatorRole.OPERATE)
    trust = parse_json(encode_trust_root(TrustRoot(KeySlot(key), operators=(who,))), "trust file")
    assert isinstance(trust, dict)
    slot = canonical_bytes(trust["ciReleaseKey"]).decode()
    yield f"public key   {key.public_key}"
    yield f"fingerprint  {fingerprint_of(key)}"
    yield ""
    yield "If it is a host's, a token is made out to its fingerprint, or fleet.toml has, under the host,"
    yield f'  pubkey = "{key.public_key}"'
    yield "If it is CI's, the organisation's or an operator's, the trust file has one of"
    yield f'  "ciReleaseKey":{slot}'
    yield f'  "orgRootKey":{slot}'
    yield f'  "operators":{canonical_bytes(trust["operators"]).decode()}'
