"""Verifies a proof from a log of nixfleet. Needs PyNaCl and nothing of nixfleet, neither code nor database.

An auditor has the names and public keys of those who may sign checkpoints, and a proof that `nixfleet log prove` made.
This shows what the proof proves: that the signer vouched for a log of so many rows at that time, that the printed rows
stand in it where it says, and, if the proof has an earlier checkpoint, that nothing before that one was changed since.

    python verify_log_proof.py PROOF SIGNER=PUBLIC_KEY...

Exit codes: 0 the proof holds; 1 it does not, and why; 2 a file or a key cannot be read.
Source: docs/spec/log-proofs.md, which has the rules in words.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import nacl.exceptions
from nacl.signing import VerifyKey

DOMAIN = b"nixfleet log checkpoint\n"
COLUMNS = [
    "ts",
    "kind",
    "host_id",
    "rollout_id",
    "payload",
    "signature",
    "first_fact_seq",
    "fact_count",
    "outcome",
]

Keys: TypeAlias = "list[tuple[str, VerifyKey]]"


class Fails(Exception):
    """The proof does not hold."""


def main(arguments: list[str]) -> int:
    """Verify the proof in the first of `arguments` with the keys in the others; return the exit code."""
    if len(arguments) < 2:
        print("usage: verify_log_proof.py PROOF SIGNER=PUBLIC_KEY...", file=sys.stderr)
        return 2
    keys: Keys = []
    for argument in arguments[1:]:
        signer, _, key = argument.rpartition("=")
        try:
            if not signer:
                raise ValueError("no signer")
            keys.append((signer, VerifyKey(bytes.fromhex(key))))
        except (ValueError, nacl.exceptions.CryptoError):
            print(f"expected SIGNER=PUBLIC_KEY, in hex, found {argument!a}", file=sys.stderr)
            return 2
    try:
        proof = json.loads(Path(arguments[0]).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        print(f"{arguments[0]} cannot be read: {error}", file=sys.stderr)
        return 2
    try:
        lines = verify(proof, keys)
    except Fails as error:
        print(f"the proof does not hold: {error}", file=sys.stderr)
        return 1
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        print(f"the proof does not hold: it has another form: {error!a}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


def verify(proof: dict[str, Any], keys: Keys) -> list[str]:
    """Return what the proof proves, in lines. Raises: Fails, and errors of Python for what is no proof."""
    checkpoint = signed_checkpoint(proof["checkpoint"], keys)
    size, root = checkpoint["rows"], bytes.fromhex(checkpoint["root"])
    lines = [
        f"{checkpoint['signer']!a} vouched at {checkpoint['signedAt']} for a log of {size} rows"
    ]
    for row in proof.get("rows", []):
        text = row["text"].encode()
        columns = columns_of(text)
        if columns[0] != str(row["seq"]):
            raise Fails(f"row {row['seq']} says that it is row {columns[0]}")
        row_hash = sha256(bytes.fromhex(row["prevHash"]) + text).digest()
        if row["seq"] == size and row_hash.hex() != checkpoint["head"]:
            raise Fails(f"the last row has hash {row_hash.hex()}, not {checkpoint['head']}")
        included(row_hash, row["seq"] - 1, size, path_of(row["path"]), root)
        lines.append(f"row {row['seq']} stands in it:")
        named = zip(COLUMNS, columns[1:], strict=False)
        lines += [f"  {name}: {text!a}" for name, text in named if text is not None]
    if proof.get("earlier") is not None:
        earlier = signed_checkpoint(proof["earlier"], keys)
        first, path = earlier["rows"], path_of(proof.get("continued", []))
        continued(first, bytes.fromhex(earlier["root"]), size, root, path)
        lines.append(f"its first {first} rows are those of {earlier['signedAt']}, unchanged")
    return lines


def signed_checkpoint(signed: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """Return the checkpoint if a key of the signer that it names signed it."""
    checkpoint: dict[str, Any] = signed["checkpoint"]
    body = json.dumps(checkpoint, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for signer, key in keys:
        if signer != checkpoint["signer"]:
            continue
        try:
            key.verify(DOMAIN + body.encode(), bytes.fromhex(signed["signature"]))
        except nacl.exceptions.BadSignatureError:
            continue
        return checkpoint
    raise Fails(f"no key that was given for {checkpoint['signer']!a} signed the checkpoint")


def columns_of(text: bytes) -> list[str | None]:
    """Return the columns of a row: each has its length in bytes and a colon before it; `-` is an absent one."""
    columns: list[str | None] = []
    while text:
        if text.startswith(b"-"):
            columns.append(None)
            text = text[1:]
            continue
        length, _, text = text.partition(b":")
        columns.append(text[: int(length)].decode())
        text = text[int(length) :]
    return columns


def path_of(hashes: list[str]) -> list[bytes]:
    """Return hashes in hex as bytes."""
    return [bytes.fromhex(each) for each in hashes]


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node of the tree: RFC 9162, section 2.1.1."""
    return sha256(b"\x01" + left + right).digest()


def included(row_hash: bytes, index: int, size: int, path: list[bytes], root: bytes) -> None:
    """Return if the row is number `index` of `size` under `root`: RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size:
        raise Fails(f"row {index + 1} is not among {size}")
    place, last, found = index, size - 1, sha256(b"\x00" + row_hash).digest()
    for sibling in path:
        if last == 0:
            raise Fails("the path is too long")
        if place & 1 or place == last:
            found = node(sibling, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node(found, sibling)
        place, last = place >> 1, last >> 1
    if last or found != root:
        raise Fails(f"row {index + 1} does not lead to the root")


def continued(first: int, first_root: bytes, size: int, root: bytes, path: list[bytes]) -> None:
    """Return if the first `first` rows of `size` have `first_root`: RFC 9162, section 2.1.4.2."""
    if not 0 < first <= size:
        raise Fails(f"{first} rows are no beginning of {size}")
    if first == size:
        if path or first_root != root:
            raise Fails("both have as many rows, and other ones")
        return
    place, last = first - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    hashes = [first_root, *path] if place == 0 else path
    if not hashes:
        raise Fails("the path is too short")
    earlier = later = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise Fails("the path is too long")
        if place & 1 or place == last:
            earlier, later = node(sibling, earlier), node(sibling, later)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            later = node(later, sibling)
        place, last = place >> 1, last >> 1
    if last or earlier != first_root or later != root:
        raise Fails("the rows of the earlier checkpoint were changed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
