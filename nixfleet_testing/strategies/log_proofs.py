"""Strategies for checkpoints of logs and proofs from them, with hashes that are of no log."""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.audit.checkpoint import CI, Checkpoint, SignedCheckpoint
from nixfleet_proto.audit.proof import LogProof, ProvedRow
from nixfleet_testing.strategies.names import times

_HASHES = st.sampled_from(("0" * 64, "a" * 64, "f" * 64))
_PATHS = st.lists(_HASHES, max_size=3).map(tuple)


def checkpoints() -> SearchStrategy[Checkpoint]:
    """Return a strategy for what a log holds at one time."""
    signers = st.sampled_from((CI, "ada"))
    return st.builds(Checkpoint, st.integers(1, 9), _HASHES, _HASHES, signers, times())


def signed_checkpoints() -> SearchStrategy[SignedCheckpoint]:
    """Return a strategy for checkpoints whose signature is no key's."""
    return st.builds(SignedCheckpoint, checkpoints(), st.just("0" * 128))


def proved_rows() -> SearchStrategy[ProvedRow]:
    """Return a strategy for rows with their paths."""
    return st.builds(ProvedRow, st.integers(1, 9), _HASHES, st.just("1:1"), _PATHS)


def log_proofs() -> SearchStrategy[LogProof]:
    """Return a strategy for proofs."""
    rows = st.lists(proved_rows(), max_size=2).map(tuple)
    earlier = st.none() | signed_checkpoints()
    return st.builds(LogProof, signed_checkpoints(), rows, earlier, _PATHS)
