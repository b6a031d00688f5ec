"""Sealed secrets as bytes and as files: canonical JSON, readable only by the owner, written atomically.

Decoding is strict: any other encoding of the same content means that the file was changed, and is refused.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from nixfleet_proto.codec import DecodeError, parse_json
from nixfleet_proto.codec.artefact import ARTEFACT_SPELLING
from nixfleet_proto.codec.strict import Coder
from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_secrets.errors import NotASealedSecret, UnsupportedVersion
from nixfleet_secrets.sealed import FORMAT, SECRET_BYTES_MAX, VERSION, SealedSecret

FILE_BYTES_MAX: Final = 4 * SECRET_BYTES_MAX

_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_KEY = re.compile(r"[0-9a-f]{64}")


def encode_sealed(sealed: SealedSecret) -> bytes:
    """Return the bytes of a sealed file."""
    return _SEALED.encode_canonical(sealed)


def decode_sealed(data: bytes) -> SealedSecret:
    """Return the sealed secret that `data` holds. Raises: NotASealedSecret, UnsupportedVersion."""
    try:
        parsed = parse_json(data, _SEALED.what)
        if not isinstance(parsed, dict) or parsed.get("format") != FORMAT:
            raise NotASealedSecret(f"expected JSON with the format {FORMAT!r}")
        version = parsed.get("version")
        if isinstance(version, int) and version != VERSION:
            raise UnsupportedVersion(VERSION, version)
        sealed = _SEALED.of_json(parsed)
    except DecodeError as error:
        raise NotASealedSecret("; ".join(map(_without_content, error.problems))) from error
    if encode_sealed(sealed) != data or not _is_well_formed(sealed):
        raise NotASealedSecret(
            "expected the exact bytes that were sealed, found a different encoding"
        )
    return sealed


def load_sealed(file: Path) -> SealedSecret:
    """Return the sealed secret in `file`. Raises: NotASealedSecret, UnsupportedVersion, OSError."""
    return decode_sealed(read_regular_file(file, bytes_max=FILE_BYTES_MAX))


def save_sealed(sealed: SealedSecret, file: Path) -> None:
    """Write `sealed` to a new `file` with mode 0600. Raises: FileExistsError and other OSErrors."""
    with _written(sealed, file) as new:
        file.hardlink_to(new)


def replace_sealed(sealed: SealedSecret, file: Path) -> None:
    """Replace the content of `file` with `sealed`, mode 0600, atomically. Raises: OSError; `file` is unchanged then."""
    with _written(sealed, file) as new:
        beside = file.with_name(f".{file.name}.resealed")
        beside.unlink(missing_ok=True)
        beside.hardlink_to(new)
        beside.replace(file)


@contextmanager
def _written(sealed: SealedSecret, beside: Path) -> Iterator[str]:
    """Yield the name of a temporary file with `sealed`, which is removed afterwards."""
    with NamedTemporaryFile(dir=beside.parent, prefix=f".{beside.name}.") as file:
        file.write(encode_sealed(sealed))
        file.flush()
        os.fsync(file.fileno())
        yield file.name


def _is_well_formed(sealed: SealedSecret) -> bool:
    keys = sealed.public_keys
    return (
        list(keys) == sorted(set(keys))
        and all(_KEY.fullmatch(key) for key in (*keys, sealed.content_key_hash))
        and all(_HEX.fullmatch(recipient.sealed_key) for recipient in sealed.recipients)
        and _HEX.fullmatch(sealed.ciphertext) is not None
    )


def _without_content(problem: object) -> str:
    return str(problem).partition(", found")[0]


_SEALED = Coder[SealedSecret](ARTEFACT_SPELLING, SealedSecret, "sealed secret")
