"""What is decompressed has a bound, whatever is in it."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_runtime.storage.decompressed import TooLong, gunzipped, inflated


@given(st.binary(max_size=3_000), st.integers(-2, 2))
def test_data_of_any_length_is_whole_up_to_the_bound_and_refused_beyond(
    data: bytes, room: int
) -> None:
    """To the byte."""
    bytes_max = max(1, len(data) + room)
    for compressed, decompress in (
        (gzip.compress(data), gunzipped),
        (zlib.compress(data), inflated),
    ):
        if len(data) <= bytes_max:
            assert decompress(compressed, bytes_max) == data
        else:
            with pytest.raises(TooLong, match=f"at most {bytes_max} bytes"):
                decompress(compressed, bytes_max)


def test_a_few_bytes_that_would_be_gigabytes_are_refused() -> None:
    """What is beyond the bound is not made."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    with pytest.raises(TooLong):
        gunzipped(bomb, 1024)


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_data_that_ends_too_early_is_refused(cut: int) -> None:
    """Also if only its checksum is missing."""
    with pytest.raises(EOFError):
        gunzipped(gzip.compress(b"x" * 100)[:-cut], 1024)


def test_data_that_something_follows_is_refused() -> None:
    """A second member is none that this project writes."""
    member = gzip.compress(b"x")
    with pytest.raises(zlib.error, match="other data follows"):
        gunzipped(member + member, 1024)


def test_data_whose_checksum_is_wrong_is_refused() -> None:
    """By zlib."""
    whole = bytearray(gzip.compress(b"x" * 100))
    whole[-6] ^= 1
    with pytest.raises(zlib.error):
        gunzipped(bytes(whole), 1024)
