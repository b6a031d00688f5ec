"""`nixfleet token`: bootstrap tokens. Used where the org root key is kept, which is not where a control plane runs."""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import click

from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import note
from nixfleet_proto.codec import encode_signed_token, format_time
from nixfleet_proto.enrollment import BootstrapToken
from nixfleet_proto.signing import InsecureKeyFile, MalformedKeyFile, SigningKey, sign_token
from nixfleet_runtime.config.check import toml_text
from nixfleet_runtime.documents.problems import quoted
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.storage.regular_file import read_regular_file

_FINGERPRINT = re.compile(r"[0-9a-fA-F]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
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
    help="The host's name in the fleet.",
)
@click.option(
    "--fingerprint",
    metavar="HEX",
    help="Fingerprint of the host's key; `nixfleet enroll` on the host shows it.",
)
@click.option(
    "--hosts",
    "hosts_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Instead of --hostname and --fingerprint: one host a line, its name and its fingerprint.",
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
    help="Where to write the token; default: standard output. With --hosts, required: a directory.",
)
def mint(
    key_file: Path,
    hostname: str | None,
    fingerprint: str | None,
    hosts_file: Path | None,
    hours: float,
    out: Path | None,
) -> None:
    """Make and sign bootstrap tokens.

    With --hosts, a token for each line of FILE is written to DIRECTORY/NAME.json, where DIRECTORY is --out. All lines
    are checked before the first token is written. Pass the directory to `release make --tokens`.

    The token is JSON. The entry that the list of nonces needs before the token is accepted goes to standard error, so
    that the token alone can be piped.

    Exit codes: 0 success; 1 others can read the key, or --out exists already; 2 a file cannot be used, or a usage
    error.
    """
    if hosts_file is not None:
        if hostname is not None or fingerprint is not None or out is None:
            raise click.UsageError(
                "expected --hosts with --out, and no --hostname or --fingerprint"
            )
        _mint_all(_key_in(key_file), _hosts_in(hosts_file), hours, out)
        return
    if hostname is None or not hostname.strip() or fingerprint is None:
        raise click.UsageError("expected --hostname and --fingerprint, or --hosts")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise click.BadParameter(
            f"expected 64 hexadecimal digits, found {len(fingerprint)} characters",
            param_hint="--fingerprint",
        )
    made = _token(hostname, fingerprint, hours)
    signed = encode_signed_token(sign_token(made, _key_in(key_file))) + b"\n"
    if out is None:
        click.echo(signed, nl=False)
    else:
        _write(out, signed)
        note(f"wrote the token for {hostname} to {out}: copy it to the host")
    for line in _entry(made):
        note(line)


def _token(hostname: str, fingerprint: str, hours: float) -> BootstrapToken:
    now = SystemClock().now()
    return BootstrapToken(
        hostname,
        fingerprint.lower(),
        issued_at=now,
        expires_at=now + timedelta(hours=hours),
        nonce=secrets.token_hex(16),
    )


def _hosts_in(file: Path) -> Mapping[str, str]:
    """Return the fingerprints in `file` by host. Empty lines and those that begin with # are ignored."""
    hosts: dict[str, str] = {}
    problems: list[str] = []
    try:
        lines = read_regular_file(file).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{file}: {error}") from error
    for number, line in enumerate(lines, 1):
        name, *rest = line.split() or ["#"]
        if name.startswith("#"):
            continue
        where = f"{file}:{number}"
        if len(rest) != 1 or not _FINGERPRINT.fullmatch(rest[0]):
            problems.append(
                f"{where}: expected a host name and a fingerprint of 64 hexadecimal digits, "
                f"found {quoted(line)}"
            )
        elif not _FILE_NAME.fullmatch(name):
            problems.append(f"{where}: expected the name of a host, found {name!r}")
        elif name in hosts:
            problems.append(f"{where}: expected each host once, found {name} again")
        else:
            hosts[name] = rest[0]
    if problems or not hosts:
        raise Findings(*(problems or [f"{file}: expected at least one host, found none"]))
    return hosts


def _mint_all(key: SigningKey, hosts: Mapping[str, str], hours: float, directory: Path) -> None:
    files = {hostname: directory / f"{hostname}.json" for hostname in hosts}
    existing = [f"{it}: expected no file, found one" for it in files.values() if it.exists()]
    if existing:
        raise Findings(*existing)
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unusable(f"{directory}: {error.strerror}") from error
    for hostname, fingerprint in hosts.items():
        made = _token(hostname, fingerprint, hours)
        _write(files[hostname], encode_signed_token(sign_token(made, key)) + b"\n")
    note(
        f"wrote {len(files)} tokens to {directory}: copy each to its host, "
        "to the file that its agent.toml has as identity.bootstrap_token_file, with mode 0600"
    )
    note("they are accepted once a release is made with --tokens and this directory")


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
