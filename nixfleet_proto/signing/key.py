"""ed25519 keys: private keys, their files, and the check of a signature with a public key.

A key file is one line of 64 hexadecimal digits with mode 0600. No error, `repr` or log line shows a
private key.
Source: docs/spec/trust.md, Keys; docs/spec/trust.md, Key files and logs.
"""

import base64
import os
import re
import stat
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol, Self, final

import nacl.exceptions
import nacl.public
import nacl.signing
from attrs import define

from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing.refusal import MalformedKey, UnsupportedAlgorithm
from nixfleet_proto.trust import TrustedKey

ALGORITHM = "ed25519"
SIGNATURE_LENGTH = 64

# Far more than a key needs; a longer file holds none.
_KEY_FILE_BYTES_MAX = 4096
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")
# Length and name of the algorithm, then the length of the key. 51 bytes are 68 characters, without padding.
_OPENSSH_PREFIX = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
_OPENSSH_KEY = re.compile(r"ssh-ed25519 +([A-Za-z0-9+/]{68})(?: .*)?")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@define
class InsecureKeyFile(NixfleetError):
    """A key file is accessible to others than its owner."""

    path: Path
    mode: int

    def __str__(self) -> str:
        return (
            f"{self.path} has mode {self.mode:04o}; expected 0600. Others may know the key: make a new "
            "one, or `chmod 600` if you are sure that nobody looked"
        )


@define
class MalformedKeyFile(NixfleetError):
    """A key file does not contain a key. Its content is not shown."""

    path: Path
    length: int

    def __str__(self) -> str:
        return (
            f"{self.path} holds no key: expected 64 hexadecimal digits, found {self.length} bytes "
            "of something else"
        )


class Signer(Protocol):
    """Makes signatures that `public_key` verifies: a key in memory, or a device with its own."""

    @property
    def public_key(self) -> TrustedKey:
        """The public half, as trust files carry it."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        ...


@final
class SigningKey:
    """An ed25519 private key. Its repr shows the public key only."""

    __slots__ = ("_key",)

    def __init__(self, seed: bytes) -> None:
        """seed: 32 random bytes. Use `generate` or `load`."""
        self._key = nacl.signing.SigningKey(seed)

    @classmethod
    def generate(cls) -> Self:
        """Return a new key."""
        return cls(bytes(nacl.signing.SigningKey.generate()))

    @classmethod
    def load(cls, path: Path, *, directory_is_private: bool = False) -> Self:
        """Return the key in `path`; the file must be accessible to its owner only (0600).

        directory_is_private: nobody else enters its directory, so the rights of the file do not matter. The credentials
        of systemd are such: they belong to root, and an access list lets the service read them.

        Raises: InsecureKeyFile, MalformedKeyFile, OSError.
        """
        # Without O_NONBLOCK, opening a named pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            # Of the file that was opened: another one may be at `path` by now.
            status = os.fstat(descriptor)
            mode = stat.S_IMODE(status.st_mode)
            if not stat.S_ISREG(status.st_mode):
                raise MalformedKeyFile(path, 0)
            text = file.read(_KEY_FILE_BYTES_MAX)
        seed = _key_bytes(text.decode("ascii", errors="replace").strip())
        # First whether it is a key: the rights of any other file are no concern of ours.
        if seed is None:
            raise MalformedKeyFile(path, len(text))
        if mode & _OTHERS and not directory_is_private:
            raise InsecureKeyFile(path, mode)
        return cls(seed)

    def save(self, path: Path) -> None:
        """Write the key to `path` (0600). The write is atomic and never replaces a file.

        Raises: FileExistsError and other OSErrors.
        """
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
            file.write(bytes(self._key).hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            path.hardlink_to(file.name)  # unlike a rename, this cannot replace a key

    @property
    def public_key(self) -> TrustedKey:
        """The public half, as trust files and enrollment carry it."""
        return TrustedKey(bytes(self._key.verify_key).hex(), ALGORITHM)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        return self._key.sign(message).signature

    def unseal(self, sealed: bytes) -> bytes | None:
        """Return the message that `seal_to` sealed to this key; `None` if it is for another one, or was changed."""
        box = nacl.public.SealedBox(self._key.to_curve25519_private_key())
        try:
            return box.decrypt(sealed)
        except (nacl.exceptions.CryptoError, nacl.exceptions.TypeError):
            return None

    def __repr__(self) -> str:
        return f"SigningKey(public_key={self.public_key.public_key!r})"


def is_signed_by(key: TrustedKey, message: bytes, signature: bytes) -> bool:
    """Return whether `key` made `signature` over `message`.

    Raises: MalformedKey, UnsupportedAlgorithm.
    """
    if key.algorithm != ALGORITHM:
        raise UnsupportedAlgorithm(key.algorithm, key.public_key)
    try:
        nacl.signing.VerifyKey(public_key_bytes(key)).verify(message, signature)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError):
        return False
    return True


def seal_to(key: TrustedKey, message: bytes) -> bytes:
    """Return `message`, encrypted so that only the private half of `key` can decrypt it. The bytes differ every time.

    The key's X25519 form is libsodium's own conversion. Raises: MalformedKey, UnsupportedAlgorithm.
    """
    return nacl.public.SealedBox(_as_x25519(key)).encrypt(message)


def require_usable(key: TrustedKey) -> None:
    """Return if `key` can verify signatures: ed25519, and a valid point that is not weak.

    Raises: MalformedKey, UnsupportedAlgorithm.
    """
    _as_x25519(key)


def read_public_key(text: str) -> TrustedKey | None:
    """Return the ed25519 key in `text`, in hex or in OpenSSH form; `None` for anything else.

    OpenSSH form is that of `/etc/ssh/ssh_host_ed25519_key.pub`: a kind, base64, and an optional comment.
    """
    if _HEX_KEY.fullmatch(text):
        return TrustedKey(text.lower(), ALGORITHM)
    openssh = _OPENSSH_KEY.fullmatch(text.strip())
    if openssh is None:
        return None
    wire = base64.b64decode(openssh[1])
    if not wire.startswith(_OPENSSH_PREFIX):
        return None
    return TrustedKey(wire[len(_OPENSSH_PREFIX) :].hex(), ALGORITHM)


def openssh_line(key: TrustedKey) -> str:
    """Return `key` as OpenSSH writes it: what `read_public_key` reads. Raises: MalformedKey."""
    wire = base64.b64encode(_OPENSSH_PREFIX + public_key_bytes(key)).decode()
    return f"ssh-ed25519 {wire}"


def public_key_bytes(key: TrustedKey) -> bytes:
    """Return the 32 bytes of a public key. Raises: MalformedKey."""
    public = _key_bytes(key.public_key)
    if public is None:
        raise MalformedKey(key.public_key)
    return public


def _as_x25519(key: TrustedKey) -> nacl.public.PublicKey:
    if key.algorithm != ALGORITHM:
        raise UnsupportedAlgorithm(key.algorithm, key.public_key)
    try:
        return nacl.signing.VerifyKey(public_key_bytes(key)).to_curve25519_public_key()
    except nacl.exceptions.CryptoError as error:  # not a point of the curve, or a weak one
        raise MalformedKey(key.public_key) from error


def _key_bytes(text: str) -> bytes | None:
    return bytes.fromhex(text) if _HEX_KEY.fullmatch(text) else None
