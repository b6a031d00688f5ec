"""Signing by a command, for keys that never leave a device: it is told what to sign, and its signature is checked.

    NIXFLEET_INPUT   a file with the bytes to sign
    NIXFLEET_OUTPUT  where the command writes the 64 bytes of the signature

It runs without a shell, once for each artefact. It may ask for a PIN: it has our terminal, and what it prints goes to
standard error. Nothing it made is handed on before the declared public key was seen to stand behind it.
Source: docs/spec/declarations.md, What signs what; docs/spec/trust.md, Keys.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from attrs import define, frozen

from nixfleet_proto.signing import is_signed_by
from nixfleet_proto.trust import TrustedKey

SIGNATURE_LENGTH: Final = 64
TIMEOUT_SECONDS: Final = 300.0
_STDERR: Final = 2


class SigningHookError(Exception):
    """A command that should have signed did not; the subclass says how."""


@define
class HookNotStarted(SigningHookError):
    """There is no such program, or it may not be run."""

    program: str
    why: str

    def __str__(self) -> str:
        return f"the signing command {self.program} cannot be started: {self.why}"


@define
class HookFailed(SigningHookError):
    """It ended, but not well."""

    program: str
    exit_code: int

    def __str__(self) -> str:
        return f"the signing command {self.program} failed: expected exit status 0, found {self.exit_code}"


@define
class HookTookTooLong(SigningHookError):
    """It was still running, and was ended."""

    program: str
    timeout_seconds: float

    def __str__(self) -> str:
        return (
            f"the signing command {self.program} took too long: "
            f"expected a signature within {self.timeout_seconds:g} s"
        )


@define
class HookWroteNothing(SigningHookError):
    """It ended well, and there is no file at NIXFLEET_OUTPUT."""

    program: str

    def __str__(self) -> str:
        return (
            f"the signing command {self.program} wrote nothing: "
            f"expected the {SIGNATURE_LENGTH} bytes of a signature in the file that NIXFLEET_OUTPUT names"
        )


@define
class HookWroteNoSignature(SigningHookError):
    """What it wrote is too short or too long to be a signature."""

    program: str
    length: int

    def __str__(self) -> str:
        text = " (in hex or base64? it must be the bytes themselves)" if self.length > 64 else ""
        return (
            f"the signing command {self.program} wrote no signature: "
            f"expected {SIGNATURE_LENGTH} bytes, found {self.length}{text}"
        )


@define
class HookSignedOtherwise(SigningHookError):
    """A signature, but by another key or of something else."""

    program: str
    public_key: str

    def __str__(self) -> str:
        return (
            f"the signing command {self.program} signed otherwise: expected a signature of what NIXFLEET_INPUT "
            f"holds, by {self.public_key}; another key made it, or it is of a digest"
        )


@frozen
class SigningHook:
    """The `Signer` that asks a command. public_key: whose signatures it is expected to make."""

    command: tuple[str, ...]
    public_key: TrustedKey
    timeout_seconds: float = TIMEOUT_SECONDS

    def sign(self, message: bytes) -> bytes:
        """Return the command's signature of `message`, checked.

        Raises: SigningHookError, OSError; MalformedKey, UnsupportedAlgorithm for the public key.
        """
        with tempfile.TemporaryDirectory(prefix="nixfleet-sign-") as directory:
            output = Path(directory, "signature")
            self._run(_written(Path(directory, "input"), message), output)
            signature = self._read(output)
        if not is_signed_by(self.public_key, message, signature):
            raise HookSignedOtherwise(self._program, self.public_key.public_key)
        return signature

    @property
    def _program(self) -> str:
        return self.command[0]

    def _run(self, to_sign: Path, output: Path) -> None:
        told = {"NIXFLEET_INPUT": str(to_sign), "NIXFLEET_OUTPUT": str(output)}
        try:
            ended = subprocess.run(
                self.command,
                env={**os.environ, **told},
                stdout=_STDERR,
                timeout=self.timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise HookTookTooLong(self._program, self.timeout_seconds) from error
        except OSError as error:
            raise HookNotStarted(self._program, error.strerror or str(error)) from error
        if ended.returncode != 0:
            raise HookFailed(self._program, ended.returncode)

    def _read(self, output: Path) -> bytes:
        try:
            with output.open("rb") as file:
                signature = file.read(64 * 1024)
        except FileNotFoundError as error:
            raise HookWroteNothing(self._program) from error
        if len(signature) != SIGNATURE_LENGTH:
            raise HookWroteNoSignature(self._program, len(signature))
        return signature


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
