"""`nixfleet evidence`: what collectors need, so that the evidence probe accepts what they found."""

import tempfile
from datetime import datetime
from pathlib import Path

import click

from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import FILE, load_key
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, printing
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.codec import DecodeError, decode_evidence
from nixfleet_proto.evidence import EVIDENCE_BYTES_MAX
from nixfleet_proto.health_check import EvidenceProbe
from nixfleet_proto.signing import MalformedArtefact, VerifyError, sign_artefact, verify_evidence
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.directory import load_artefact
from nixfleet_runtime.releases.layout import SIGNATURE_SUFFIX
from nixfleet_runtime.storage.regular_file import read_regular_file

_evidence_file = click.argument("file", metavar="FILE", type=FILE)


@group()
def evidence() -> None:
    """Sign and check compliance evidence.

    Evidence is what a collector found on a host, for probes of kind `evidence`.
    """


@evidence.command()
@_evidence_file
@click.option(
    "--key", "key_file", required=True, metavar="FILE", type=FILE, help="The host's key (0600)."
)
@click.option(
    "--to",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write it; default: in place.",
)
def sign(file: Path, key_file: Path, to: Path | None) -> None:
    """Sign the evidence in FILE with the host's key.

    Writes the evidence and, beside it, its signature where the probe reads them. Prints nothing.

    Exit codes: 0 success; 1 invalid evidence, with every problem; 2 a file cannot be read or written.
    """
    try:
        body = read_regular_file(file, bytes_max=EVIDENCE_BYTES_MAX)
        decode_evidence(body)
        signed = sign_artefact(body, load_key(key_file))
        _put(signed, to or file)
    except (DecodeError, MalformedArtefact) as error:
        raise Findings(*lines_of(error, file)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or file}: {error.strerror}") from error


@evidence.command()
@_evidence_file
@click.option(
    "--key",
    required=True,
    metavar="PUBLIC_KEY",
    type=arguments.public_key,
    help="The host's public key, or a file with it.",
)
@click.option(
    "--framework", required=True, metavar="NAME", help="The framework that the probe names."
)
@click.option(
    "--max-age-secs",
    metavar="SECONDS",
    default=24 * 60 * 60,
    show_default=True,
    type=click.IntRange(1),
    help="How old the evidence may be.",
)
@arguments.at_time
@printing("one object with status and controls; of each controlId and status")
def check(
    output: Output,
    file: Path,
    key: TrustedKey,
    framework: str,
    max_age_secs: int,
    at_time: datetime,
) -> None:
    """Judge the evidence in FILE as a probe would.

    The probe is one for the framework, without overrides.

    Exit codes: 0 it passes; 1 it fails, with the reason; 2 FILE cannot be read.
    """
    from nixfleet_agent.probes.evidence import judge

    try:
        found = verify_evidence(load_artefact(file), key)
    except VerifyError as error:
        raise Findings(*lines_of(error, file)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or file}: {error.strerror}") from error
    probe = EvidenceProbe(framework, str(file), max_age_secs=max_age_secs)
    outcome = judge(found, probe, at_time)
    controls = outcome.sub_results or ()
    output.show(
        {
            "status": outcome.status,
            "controls": [
                {"controlId": each.control_id, "status": each.status} for each in controls
            ],
        },
        [f"{each.control_id}  {each.status}" for each in controls],
    )
    if outcome.status is ProbeStatus.FAIL:
        raise Findings(str(outcome.failure_reason))


def _put(signed: SignedArtefact, place: Path) -> None:
    # One right after the other: a probe that reads between the two reads again before it reports.
    signature = place.with_name(place.name + SIGNATURE_SUFFIX)
    with tempfile.TemporaryDirectory(prefix=".evidence-", dir=place.parent) as beside:
        ready = [(Path(beside, "body"), place), (Path(beside, "signature"), signature)]
        for (new, _), content in zip(ready, (signed.body, signed.signature), strict=True):
            new.write_bytes(content)
            new.chmod(0o644)
        for new, final in ready:
            new.replace(final)
