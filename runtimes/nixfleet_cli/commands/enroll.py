"""`nixfleet enroll`: makes this host known to its control plane."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nixfleet_cli.commands.agent import config_option, loaded_config
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, printing, show_lines
from nixfleet_runtime.kernel.clock import SystemClock

if TYPE_CHECKING:  # They need the libraries of the extra `http`, and --help does not.
    from nixfleet_agent.config import AgentConfig, ControlPlaneAddress
    from nixfleet_agent.network.enrollment import OwnKey
    from nixfleet_proto.enrollment import SignedToken
    from nixfleet_proto.trust import TrustRoot


@command()
@config_option
@click.option(
    "--token",
    "token_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The bootstrap token; default: the one in the configuration.",
)
@printing("one object with hostname, url, keyFile, fingerprint and wasKnown")
def enroll(output: Output, file: Path, token_file: Path | None) -> None:
    """Enroll this host with its control plane.

    Makes the host's key if it has none and shows its fingerprint. Idempotent: a host that is known already is left as
    it is.

    Exit codes: 0 the host is known; 1 it is not, and what to do; 2 a file cannot be used, or no answer.
    """
    import anyio

    from nixfleet_agent.config_plugins import PluggedTransport
    from nixfleet_agent.main import load_trust
    from nixfleet_agent.network.enrollment import EnrollmentRefused, WrongToken
    from nixfleet_proto.codec import DecodeError
    from nixfleet_runtime.transport import TransportFailed

    config = loaded_config(file)
    address = config.control_plane
    if isinstance(address, PluggedTransport):
        raise Findings(
            f"{file}: expected a control plane over HTTP, found {address.where}, which enrolls by itself"
        )
    own = _own_key(config.identity.key_file)
    if not output.as_json:
        made = " (new)" if own.is_new else ""
        show_lines(
            [f"key          {config.identity.key_file}{made}", f"fingerprint  {own.fingerprint}"]
        )
    token_file = token_file or config.identity.bootstrap_token_file
    try:
        trust = load_trust(config.trust.file)
        was_known = anyio.run(_enroll, config, address, own, trust, token_file)
    except (WrongToken, EnrollmentRefused) as error:
        raise Findings(*lines_of(error)) from error
    except (TransportFailed, DecodeError, OSError) as error:
        raise Unusable(*lines_of(error)) from error
    url = address.url
    done = "is enrolled already" if was_known else "is enrolled"
    output.show(
        {
            "hostname": config.hostname,
            "url": url,
            "keyFile": config.identity.key_file,
            "fingerprint": own.fingerprint,
            "wasKnown": was_known,
        },
        [f"{config.hostname} {done} with {url}"],
    )


def _own_key(file: Path) -> "OwnKey":
    from nixfleet_agent.network.enrollment import own_key
    from nixfleet_proto.signing import InsecureKeyFile, MalformedKeyFile

    try:
        return own_key(file)
    except (InsecureKeyFile, MalformedKeyFile, OSError) as error:
        raise Unusable(str(error)) from error


async def _enroll(
    config: "AgentConfig",
    address: "ControlPlaneAddress",
    own: "OwnKey",
    trust: "TrustRoot",
    token_file: Path | None,
) -> bool:
    """Return whether the host was known already."""
    from nixfleet_agent.main import way_to_control_plane
    from nixfleet_agent.network.enrollment import enroll_request, how_to_get_a_token
    from nixfleet_agent.workers.enrollment_shell import is_known

    clock = SystemClock()
    async with way_to_control_plane(config.hostname, address, own.key, clock) as transport:
        # A key that was made just now cannot be known.
        if not own.is_new and await is_known(transport):
            return True
        token = _token_in(token_file)
        if token is None:
            raise Findings(*how_to_get_a_token(config.hostname, own, token_file).split("\n"))
        await transport.enroll(enroll_request(token, config.hostname, own, trust, clock.now()))
    return False


def _token_in(file: Path | None) -> "SignedToken | None":
    from nixfleet_agent.network.enrollment import load_token

    try:
        return None if file is None else load_token(file)
    except FileNotFoundError:
        return None
