"""`nixfleet conformance`: vector files against the code that runs here, or recorded from it.

The format is in docs/vector-format.md. What is compared, and how, is `nixfleet_testing.conformance`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from attrs import frozen

from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.codec import DecodeError, decode_envelope, encode_envelope
from nixfleet_testing.conformance.kinds import CheckedFile, VectorKind, check_file
from nixfleet_testing.conformance.recording import record
from nixfleet_testing.conformance.wire import WireCodec

_OURS = WireCodec(encode_envelope, decode_envelope, DecodeError)


@frozen
class _Verdict:
    """How many rows of a file differ, and how many of its lines could not be read."""

    differing: int
    unreadable: int


@click.command()
@click.argument(
    "files",
    metavar="FILE…",
    nargs=-1,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--record",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write this version's own vectors into DIR instead.",
)
def conformance(files: tuple[Path, ...], directory: Path | None) -> None:
    """Run the vectors in FILE…, gzipped or plain, and print what differs, field by field.

    Exit codes: 0 all agree; 1 something differs; 2 something could not be read, and the rest agrees.
    """
    if bool(files) is (directory is not None):
        raise click.UsageError("expected either FILE… to check or --record DIR")
    if directory is None:
        _check(files)
    else:
        _record(directory)


def _check(files: Sequence[Path]) -> None:
    verdicts = [_checked(path) for path in files]
    differing = sum(verdict.differing for verdict in verdicts)
    unreadable = sum(verdict.unreadable for verdict in verdicts)
    if differing:
        raise Findings(f"{_rows(differing, 'differ')} from what was recorded")
    if unreadable:
        raise Unusable(f"lines or files that could not be read: {unreadable}")


def _checked(path: Path) -> _Verdict:
    try:
        found = check_file(path, _OURS)
    except OSError as error:
        _tell(f"{path}: {error.strerror or error}")
        return _Verdict(0, 1)
    _print_broken(path, found)
    for difference in found.differences:
        _tell(
            f"{path}: vector {difference.vector_id}, step {difference.step}, {difference.path}: "
            f"expected {difference.expected}, found {difference.found}"
        )
    differing = Counter(row.kind for row in found.rows if row.run.differences)
    for kind, count in found.counts.items():
        _tell(f"{path}: {_agreement(kind, count, differing[kind])}")
    if not found.rows and not found.broken:
        _tell(f"{path}: no vectors")
    return _Verdict(differing.total(), len(found.broken) if found.rows else len(found.broken) or 1)


def _print_broken(path: Path, found: CheckedFile) -> None:
    for line in found.broken:
        _tell(f"{path}: line {line.number}: {line.reason}")


def _agreement(kind: VectorKind, count: int, differing: int) -> str:
    told = f"{kind}: {count - differing} of {_rows(count, 'agree')}"
    return f"{told}, {differing} not" if differing else told


def _record(directory: Path) -> None:
    try:
        counts = record(directory, _OURS)
    except OSError as error:
        raise Unusable(f"{directory}: {error.strerror or error}") from error
    for name, count in counts.items():
        _tell(f"{directory / name}: {_rows(count)}")


def _rows(number: int, verb: str = "") -> str:
    one, many = (f" {verb}s", f" {verb}") if verb else ("", "")
    return f"1 row{one}" if number == 1 else f"{number} rows{many}"


def _tell(line: str) -> None:
    """What a row says may be no text that a terminal takes: half of a surrogate pair, for one."""
    click.echo(line.encode(errors="backslashreplace"))
