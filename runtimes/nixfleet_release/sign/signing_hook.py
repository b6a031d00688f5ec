"""Signs with an external command, for keys that never leave a device, and verifies the signature.

    NIXFLEET_INPUT   a file with the bytes to sign
    NIXFLEET_OUTPUT  where the command writes the 64 bytes of the signature

The command runs without a shell, once per artefact. It has our terminal, so it may ask for a PIN; its standard output
goes to standard error. A signature is used only after verification with the declared public key.
Source: docs/spec/declarations.md, What signs what; docs/spec/trust.md, Keys.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from attrs import define, frozen

from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing import is_signed_by
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.storage.regular_file import read_regular_file

SIGNATURE_LENGTH: Final = 64
TIMEOUT_SECONDS: Final = 300.0
_STDERR: Final = 2


class SigningHookError(NixfleetError):
    """The signing command failed; the subclass says how."""


@define
class HookNotStarted(SigningHookError):
    """The program does not exist or cannot be executed."""

    program: str
    why: str

    def __str__(self) -> str:
        return f"the signing command {self.program} cannot be started: {self.why}"


@define
class HookFailed(SigningHookError):
    """The command exited with a status other than 0."""

    program: str
    exit_code: int

    def __str__(self) -> str:
        return f"the signing command {self.program} failed: expected exit status 0, found {self.exit_code}"


@define
class HookTookTooLong(SigningHookError):
    """The command did not finish in time and was killed."""

    program: str
    timeout_seconds: float

    def __str__(self) -> str:
        return (
            f"the signing command {self.program} took too long: "
            f"expected a signature within {self.timeout_seconds:g} s"
        )


@define
class HookWroteNothing(SigningHookError):
    """The command exited with status 0, but there is no file at NIXFLEET_OUTPUT."""

    program: str

    def __str__(self) -> str:
        return (
            f"the signing command {self.program} wrote nothing: "
            f"expected a signature of {SIGNATURE_LENGTH} bytes in the file that NIXFLEET_OUTPUT names"
        )


@define
class HookWroteNoSignature(SigningHookError):
    """The output has the wrong length for a signature."""

    program: str
    length: int

    def __str__(self) -> str:
        text = " (write raw bytes, not hex or base64)" if self.length > 64 else ""
        return (
            f"the signing command {self.program} wrote no signature: "
            f"expected {SIGNATURE_LENGTH} bytes, found {self.length}{text}"
        )


@define
class HookSignatureInvalid(SigningHookError):
    """The signature is by another key, or of other bytes."""

    program: str
    public_key: str

    def __str__(self) -> str:
        return (
            f"the signing command {self.program} wrote a signature that does not verify: expected one by "
            f"{self.public_key} of the content of NIXFLEET_INPUT, found one by another key or of other bytes "
            "(a digest?)"
        )


@frozen
class SigningHook:
    """A `Signer` that runs a command. public_key: the key that verifies its signatures."""

    command: tuple[str, ...]
    public_key: TrustedKey
    timeout_seconds: float = TIMEOUT_SECONDS

    def sign(self, message: bytes) -> bytes:
        """Return the command's signature of `message`, verified.

        Raises: SigningHookError, OSError; MalformedKey, UnsupportedAlgorithm for the public key.
        """
        with tempfile.TemporaryDirectory(prefix="nixfleet-sign-") as directory:
            output = Path(directory, "signature")
            self._run(_written(Path(directory, "input"), message), output)
            signature = self._read(output)
        if not is_signed_by(self.public_key, message, signature):
            raise HookSignatureInvalid(self._program, self.public_key.public_key)
        return signature

    @property
    def _program(self) -> str:
        return self.command[0]

    def _run(self, to_sign: Path, output: Path) -> None:
        variables = {"NIXFLEET_INPUT": str(to_sign), "NIXFLEET_OUTPUT": str(output)}
        try:
            completed = subprocess.run(
                self.command,
                env={**os.environ, **variables},
                stdout=_STDERR,
                timeout=self.timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise HookTookTooLong(self._program, self.timeout_seconds) from error
        except OSError as error:
            raise HookNotStarted(self._program, error.strerror or str(error)) from error
        if completed.returncode != 0:
            raise HookFailed(self._program, completed.returncode)

    def _read(self, output: Path) -> bytes:
        try:
            signature = read_regular_file(output, bytes_max=64 * 1024, follow_links=False)
        except FileNotFoundError as error:
            raise HookWroteNothing(self._program) from error
        if len(signature) != SIGNATURE_LENGTH:
            raise HookWroteNoSignature(self._program, len(signature))
        return signature


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
