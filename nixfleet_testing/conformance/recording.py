"""Our own answers as vector files, one of each kind: the format published, and an oracle for other implementations.

Recording twice gives the same bytes. Nothing is decided here: each row is an answer of the code that runs.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from nixfleet_testing.conformance.answer import JsonObject
from nixfleet_testing.conformance.recorded_machines import (
    host_histories,
    host_matrix,
    rehydrations,
    rollout_histories,
    rollout_matrix,
)
from nixfleet_testing.conformance.recorded_plans import plans
from nixfleet_testing.conformance.recorded_wire import envelopes, parses
from nixfleet_testing.conformance.vector_file import write_vectors
from nixfleet_testing.conformance.wire import WireCodec


def record(directory: Path, codec: WireCodec) -> Mapping[str, int]:
    """Write all files into `directory`, made if need be; return how many rows each has. Raises: OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for name, rows in recordings(codec).items():
        numbered: list[JsonObject] = [{"id": id_, **row} for id_, row in enumerate(rows)]
        write_vectors(directory / name, numbered)
        counts[name] = len(numbered)
    return counts


def recordings(codec: WireCodec) -> Mapping[str, Iterable[JsonObject]]:
    """Return the rows by the name of their file."""
    return {
        "host_vectors.jsonl.gz": host_histories(),
        "host_matrix.jsonl.gz": host_matrix(),
        "rollout_vectors.jsonl.gz": rollout_histories(),
        "rollout_matrix.jsonl.gz": rollout_matrix(),
        "planner_vectors.jsonl.gz": plans(),
        "wire_vectors.jsonl.gz": envelopes(codec),
        "wire_parse_vectors.jsonl.gz": parses(codec),
        "rehydration_vectors.jsonl.gz": rehydrations(),
    }
