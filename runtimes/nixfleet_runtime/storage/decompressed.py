"""Decompresses what others may have written: a few compressed bytes can be gigabytes. What ships decompresses by it."""

import zlib
from typing import Final

from nixfleet_proto.errors import NixfleetError

_GZIP: Final = 31
"""`wbits` of zlib for a gzip file, whose checksum it verifies at the end."""


class TooLong(NixfleetError):
    """Compressed data is longer than it may be. Attributes: `bytes_max`."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max)
        self.bytes_max = bytes_max

    def __str__(self) -> str:
        return f"expected at most {self.bytes_max} bytes when it is decompressed, found more"


def gunzipped(data: bytes, bytes_max: int) -> bytes:
    """Return the content of a gzip file of one member. Raises: TooLong, zlib.error, EOFError."""
    return _decompressed(zlib.decompressobj(_GZIP), data, bytes_max)


def inflated(data: bytes, bytes_max: int) -> bytes:
    """Return what `zlib.compress` was given. Raises: TooLong, zlib.error, EOFError."""
    return _decompressed(zlib.decompressobj(), data, bytes_max)


def _decompressed(decompressor: "zlib._Decompress", data: bytes, bytes_max: int) -> bytes:
    content = decompressor.decompress(data, bytes_max)
    if not decompressor.eof:
        # All of it may be out, and the checksum still to be read.
        if decompressor.decompress(decompressor.unconsumed_tail, 1):
            raise TooLong(bytes_max)
        if not decompressor.eof:
            raise EOFError("the compressed data ends too early")
    if decompressor.unused_data:
        raise zlib.error("other data follows the compressed data")
    return content
