"""`nixfleet enroll`: makes this host known to its control plane."""

from pathlib import Path

import anyio
import click

from nixfleet_agent.config import AgentConfig
from nixfleet_agent.main import load_trust, way_to_control_plane
from nixfleet_agent.network.enrollment import (
    EnrollmentRefused,
    OwnKey,
    WrongToken,
    enroll_request,
    how_to_get_a_token,
    load_token,
    own_key,
)
from nixfleet_agent.workers.enrollment import is_known
from nixfleet_cli.commands.agent import config_option, loaded_config
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.enrollment import SignedToken
from nixfleet_proto.signing import InsecureKeyFile, MalformedKeyFile
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.transport import TransportFailed


@click.command()
@config_option
@click.option(
    "--token",
    "token_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The bootstrap token; if not given, the one that the configuration names.",
)
def enroll(file: Path, token_file: Path | None) -> None:
    """Make this host's key if it has none, show its fingerprint, and enroll with a bootstrap token.

    A host that is known already is left as it is.

    Exit codes: 0 the host is known; 1 it is not, and what to do; 2 a file cannot be used, or nobody answers.
    """
    config = loaded_config(file)
    own = _shown_key(config.identity.key_file)
    token_file = token_file or config.identity.bootstrap_token_file
    try:
        trust = load_trust(config.trust.file)
        anyio.run(_enroll, config, own, trust, token_file)
    except (WrongToken, EnrollmentRefused) as error:
        raise Findings(str(error)) from error
    except (TransportFailed, DecodeError, OSError) as error:
        raise Unusable(str(error)) from error


def _shown_key(file: Path) -> OwnKey:
    try:
        own = own_key(file)
    except (InsecureKeyFile, MalformedKeyFile, OSError) as error:
        raise Unusable(str(error)) from error
    click.echo(f"key          {file}{' (made just now)' if own.is_new else ''}")
    click.echo(f"fingerprint  {own.fingerprint}")
    return own


async def _enroll(
    config: AgentConfig, own: OwnKey, trust: TrustRoot, token_file: Path | None
) -> None:
    clock = SystemClock()
    where = config.control_plane.url
    async with way_to_control_plane(config, own.key, clock) as transport:
        # Of a key that was made just now nobody can know.
        if not own.is_new and await is_known(transport):
            click.echo(f"{config.hostname} is known to {where} already")
            return
        token = _token_in(token_file)
        if token is None:
            raise Findings(how_to_get_a_token(config.hostname, own, token_file))
        await transport.enroll(enroll_request(token, config.hostname, own, trust, clock.now()))
    click.echo(f"{config.hostname} is enrolled with {where}")


def _token_in(file: Path | None) -> SignedToken | None:
    try:
        return None if file is None else load_token(file)
    except FileNotFoundError:
        return None
