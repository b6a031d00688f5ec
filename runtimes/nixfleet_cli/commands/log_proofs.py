"""`nixfleet log checkpoint|prove`: what others need to check a log without having it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from nixfleet_cli.shared.arguments import FILE, NEW_FILE, load_key, nonblank, now
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.database import reading, store_argument
from nixfleet_cli.shared.exports import exports_option, refusing_exports
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, printing
from nixfleet_cli.shared.progress import progress
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.history.approvals import EarlierTrust
from nixfleet_control_plane.history.proofs import (
    LogDiffers,
    NoSuchRow,
    checkpoint_of,
    prove,
    row_hashes,
)
from nixfleet_proto.audit.checkpoint import Checkpoint, SignedCheckpoint
from nixfleet_proto.codec import DecodeError, format_time
from nixfleet_proto.codec.checkpoint import LOG_PROOF, SIGNED_CHECKPOINT
from nixfleet_proto.signing.checkpoint import UnknownSigner, sign_checkpoint, verify_checkpoint
from nixfleet_proto.signing.refusal import VerifyError
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.process.progress import noting
from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_runtime.storage.replaced_file import replace_file

_to = click.option(
    "--to", "file", required=True, metavar="FILE", type=NEW_FILE, help="The file to write."
)
CHECKPOINTS: Final = click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="FILE",
    type=FILE,
    help="The log must continue this checkpoint; with --trust. May be given several times.",
)


@command(name="checkpoint")
@store_argument
@click.option(
    "--key", "key_file", required=True, metavar="FILE", type=FILE, help="The signer's key (0600)."
)
@click.option(
    "--signer",
    required=True,
    metavar="NAME",
    callback=nonblank,
    help="The operator whose key it is, or ci.",
)
@exports_option
@_to
@printing("one object with rows, head, root, signer and signedAt")
def make_checkpoint(
    output: Output,
    store: StoreConfig,
    key_file: Path,
    signer: str,
    exports: Path | None,
    file: Path,
) -> None:
    """Sign what the log holds now.

    The log is checked first. Keep the checkpoint where the control plane cannot change it: `log verify --checkpoint`
    shows later that nothing up to here was cut off or rewritten. DB is the database of a control plane.

    Exit codes: 0 written; 1 the chain is broken, or the log is empty; 2 a file cannot be read or written.
    """
    key = load_key(key_file)
    with reading(store) as stored, refusing_exports(store.where):
        total = stored.ask(lambda it: it.head())
        with progress(output, "verifying the chain", "rows", total) as bar:
            report = stored.ask(lambda it: it.verify(bar.noted))
        if report.problem is not None:
            raise Findings(f"{store.where}: the chain breaks at row {report.broken_at}")
        if not report.rows:
            raise Findings(f"{store.where}: expected a log with at least one row, found none")
        with progress(output, "hashing the rows", "rows", total) as bar:
            hashes = row_hashes(noting(stored.whole_log(exports), bar.noted))
        checkpoint = checkpoint_of(hashes, signer, now())
    _write(file, SIGNED_CHECKPOINT.encode_canonical(sign_checkpoint(checkpoint, key)))
    output.show(_value(checkpoint), [f"{file}: {_told(checkpoint)}"])


@command(name="prove")
@store_argument
@click.option(
    "--checkpoint",
    "checkpoint_file",
    required=True,
    metavar="FILE",
    type=FILE,
    help="The checkpoint that the auditor has, or will be shown.",
)
@click.option(
    "--row", "rows", multiple=True, metavar="SEQ", type=click.IntRange(min=1), help="A row to show."
)
@click.option(
    "--earlier",
    "earlier_file",
    metavar="FILE",
    type=FILE,
    help="Also prove that nothing up to this checkpoint was changed since.",
)
@exports_option
@_to
@printing("one object with rows (their numbers), checkpoint and earlier (null without --earlier)")
def make_proof(
    output: Output,
    store: StoreConfig,
    checkpoint_file: Path,
    rows: tuple[int, ...],
    earlier_file: Path | None,
    exports: Path | None,
    file: Path,
) -> None:
    """Show rows to an auditor who does not get the log.

    The proof holds the rows as they are, with the hashes that lead to the checkpoint. It is checked with
    examples/verify_log_proof.py, which needs PyNaCl and nothing of nixfleet. DB is the database of a control plane.

    Exit codes: 0 written; 1 the log is not the one of the checkpoint, or has no such row; 2 a file cannot be read or
    written.
    """
    if not rows and earlier_file is None:
        raise click.UsageError("expected what to prove: --row or --earlier, found neither")
    signed = load_checkpoint(checkpoint_file)
    earlier = None if earlier_file is None else load_checkpoint(earlier_file)
    with reading(store) as stored, refusing_exports(store.where):
        total = stored.ask(lambda it: it.head())
        with progress(output, "hashing the rows", "rows", total) as bar:
            hashes = row_hashes(noting(stored.whole_log(exports), bar.noted))
        try:
            proof = prove(hashes, signed, rows, lambda: stored.whole_log(exports), earlier)
        except (LogDiffers, NoSuchRow) as error:
            raise Findings(f"{store.where}: {error}") from error
    _write(file, LOG_PROOF.encode_canonical(proof))
    output.show(
        {
            "rows": [row.seq for row in proof.rows],
            "checkpoint": _value(signed.checkpoint),
            "earlier": None if earlier is None else _value(earlier.checkpoint),
        },
        [f"{file}: {len(proof.rows)} row(s) under {_told(signed.checkpoint)}"],
    )


def load_checkpoint(file: Path) -> SignedCheckpoint:
    """Return the checkpoint in a file; its signature is not checked. Raises: Findings, Unusable."""
    try:
        return SIGNED_CHECKPOINT.decode(read_regular_file(file))
    except DecodeError as error:
        raise Findings(f"{file}: {error}") from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error


def verified_checkpoint(
    file: Path, trust: TrustRoot, earlier: Iterable[EarlierTrust] = ()
) -> Checkpoint:
    """Return the checkpoint in a file, if the trust of its time knows its signer. Raises: Findings, Unusable."""
    signed = load_checkpoint(file)
    for before in sorted(earlier, key=lambda each: each.until, reverse=True):
        trust = before.trust if signed.checkpoint.signed_at < before.until else trust
    try:
        return verify_checkpoint(signed, trust)
    except (UnknownSigner, VerifyError) as error:
        raise Findings(f"{file}: {error}") from error


def _write(file: Path, content: bytes) -> None:
    try:
        replace_file(file, content)
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error


def _told(checkpoint: Checkpoint) -> str:
    return f"a log of {checkpoint.rows} rows, head {checkpoint.head}"


def _value(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "rows": checkpoint.rows,
        "head": checkpoint.head,
        "root": checkpoint.root,
        "signer": checkpoint.signer,
        "signedAt": format_time(checkpoint.signed_at),
    }
