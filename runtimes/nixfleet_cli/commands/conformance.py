"""`nixfleet conformance`: checks vector files against the code that runs here, or records them from it.

The format is in docs/reference/vector-format.md. What is compared, and how, is `nixfleet_testing.conformance`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from attrs import frozen

from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, printing
from nixfleet_proto.codec import DecodeError, decode_envelope, encode_envelope
from nixfleet_testing.conformance.kinds import VectorKind, check_file
from nixfleet_testing.conformance.recording import record
from nixfleet_testing.conformance.wire import WireCodec

_OURS = WireCodec(encode_envelope, decode_envelope, DecodeError)


@frozen
class _Verdict:
    """How many rows of a file differ, and how many of its lines could not be read."""

    differing: int
    unreadable: int


@command()
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
    help="Instead: write this version's vectors into DIR.",
)
@printing("one object a line, with file and text")
def conformance(output: Output, files: tuple[Path, ...], directory: Path | None) -> None:
    """Check or record conformance vectors.

    Runs the vectors in each FILE, gzipped or plain, against this version and prints what differs, field by field.

    Exit codes: 0 all agree; 1 some differ; 2 some cannot be read, and the rest agrees.
    """
    if bool(files) is (directory is not None):
        raise click.UsageError("expected either FILE… to check or --record DIR")
    if directory is None:
        _check(output, files)
    else:
        _record(output, directory)


def _check(output: Output, files: Sequence[Path]) -> None:
    verdicts = [_checked(output, path) for path in files]
    differing = sum(verdict.differing for verdict in verdicts)
    unreadable = sum(verdict.unreadable for verdict in verdicts)
    if differing:
        raise Findings(f"{_rows(differing, 'differ')} from what was recorded")
    if unreadable:
        raise Unusable(f"lines or files that could not be read: {unreadable}")


def _checked(output: Output, path: Path) -> _Verdict:
    try:
        found = check_file(path, _OURS)
    except OSError as error:
        _print(output, path, str(error.strerror or error))
        return _Verdict(0, 1)
    for line in found.broken:
        _print(output, path, f"line {line.number}: {line.reason}")
    for difference in found.differences:
        _print(
            output,
            path,
            f"vector {difference.vector_id}, step {difference.step}, {difference.path}: "
            f"expected {difference.expected}, found {difference.found}",
        )
    differing = Counter(row.kind for row in found.rows if row.run.differences)
    for kind, count in found.counts.items():
        _print(output, path, _agreement(kind, count, differing[kind]))
    if not found.rows and not found.broken:
        _print(output, path, "no vectors")
    return _Verdict(differing.total(), len(found.broken) if found.rows else len(found.broken) or 1)


def _agreement(kind: VectorKind, count: int, differing: int) -> str:
    agreeing = f"{kind}: {count - differing} of {_rows(count, 'agree')}"
    return f"{agreeing}, {differing} not" if differing else agreeing


def _record(output: Output, directory: Path) -> None:
    try:
        counts = record(directory, _OURS)
    except OSError as error:
        raise Unusable(f"{directory}: {error.strerror or error}") from error
    for name, count in counts.items():
        _print(output, directory / name, _rows(count))


def _rows(number: int, verb: str = "") -> str:
    one, many = (f" {verb}s", f" {verb}") if verb else ("", "")
    return f"1 row{one}" if number == 1 else f"{number} rows{many}"


def _print(output: Output, file: Path, text: str) -> None:
    output.show({"file": file, "text": text}, [f"{file}: {text}"])
