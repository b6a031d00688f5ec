"""Operators' secrets, sealed to several public keys: any matching private key opens them. No network; plaintext is
never written to disk.

A machine's own key is different: it is generated on the machine and never leaves it (`SigningKey.generate`, `save`).
`sealed` seals and opens; `sealed_file` encodes, reads and writes.
docs/how-to/keys-and-trust.md is the user documentation.
Source: docs/spec/trust.md, Secrets.
"""

from nixfleet_secrets.errors import (
    NoRecipients,
    NotARecipient,
    NotASealedSecret,
    SealingError,
    SecretTooLong,
    TamperedSecret,
    UnsupportedVersion,
)
from nixfleet_secrets.sealed import (
    SECRET_BYTES_MAX,
    SealedSecret,
    open_secret,
    reseal_secret,
    seal_secret,
)
from nixfleet_secrets.sealed_file import (
    decode_sealed,
    encode_sealed,
    load_sealed,
    replace_sealed,
    save_sealed,
)

__all__ = [
    "SECRET_BYTES_MAX",
    "NoRecipients",
    "NotARecipient",
    "NotASealedSecret",
    "SealedSecret",
    "SealingError",
    "SecretTooLong",
    "TamperedSecret",
    "UnsupportedVersion",
    "decode_sealed",
    "encode_sealed",
    "load_sealed",
    "open_secret",
    "replace_sealed",
    "reseal_secret",
    "save_sealed",
    "seal_secret",
]
