"""`nixfleet evidence`: what collectors need, so that the evidence probe believes what they found."""

import tempfile
from datetime import datetime
from pathlib import Path

import click

from nixfleet_agent.probes.evidence import judge
from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import FILE, load_key
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.codec import DecodeError, decode_evidence
from nixfleet_proto.health_check import EvidenceProbe
from nixfleet_proto.signing import MalformedArtefact, VerifyError, sign_artefact, verify_evidence
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.directory import load_artefact
from nixfleet_runtime.releases.layout import SIGNATURE_SUFFIX

_evidence_file = click.argument("file", metavar="FILE", type=FILE)


@click.group()
def evidence() -> None:
    """Evidence: what a collector found on this host, for probes of kind `evidence`."""


@evidence.command()
@_evidence_file
@click.option("--key", "key_file", required=True, type=FILE, help="The host's key (0600).")
@click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where it goes; FILE, if not given.",
)
def sign(file: Path, key_file: Path, to: Path | None) -> None:
    """Sign the evidence in FILE with the host's key, and put both where the probe reads them.

    Exit codes: 0 signed; 1 FILE is no evidence, with every problem; 2 it could not be read or written.
    """
    try:
        body = file.read_bytes()
        decode_evidence(body)
        signed = sign_artefact(body, load_key(key_file))
        _put(signed, to or file)
    except (DecodeError, MalformedArtefact) as error:
        raise Findings(f"{file}: {error}") from error
    except OSError as error:
        raise Unusable(f"{error.filename or file}: {error.strerror}") from error


@evidence.command()
@_evidence_file
@click.option("--key", required=True, type=arguments.public_key, help="The host's public key.")
@click.option("--framework", required=True, help="The framework that the probe asks for.")
@click.option("--max-age-secs", default=24 * 60 * 60, show_default=True, type=click.IntRange(1))
@arguments.at_time
def check(
    file: Path, key: TrustedKey, framework: str, max_age_secs: int, at_time: datetime
) -> None:
    """Say what a probe for a framework, without overrides, would make of the evidence in FILE.

    Exit codes: 0 it passes; 1 it fails, with the reason; 2 FILE could not be read.
    """
    try:
        found = verify_evidence(load_artefact(file), key)
    except VerifyError as error:
        raise Findings(f"{file}: {error}") from error
    except OSError as error:
        raise Unusable(f"{error.filename or file}: {error.strerror}") from error
    probe = EvidenceProbe(framework, str(file), max_age_secs=max_age_secs)
    outcome = judge(found, probe, at_time)
    for result in outcome.sub_results or ():
        click.echo(f"{result.control_id}  {result.status}")
    if outcome.status is ProbeStatus.FAIL:
        raise Findings(str(outcome.failure_reason))


def _put(signed: SignedArtefact, place: Path) -> None:
    # Right after each other: a probe that comes between the two looks again before it says anything.
    signature = place.with_name(place.name + SIGNATURE_SUFFIX)
    with tempfile.TemporaryDirectory(prefix=".evidence-", dir=place.parent) as beside:
        ready = [(Path(beside, "body"), place), (Path(beside, "signature"), signature)]
        for (new, _), content in zip(ready, (signed.body, signed.signature), strict=True):
            new.write_bytes(content)
            new.chmod(0o644)
        for new, final in ready:
            new.replace(final)
