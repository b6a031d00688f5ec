"""Removes what looks like a secret from a text before it becomes a fact. Pure.

A probe's failure names its URL or quotes its output, and a fact is in an append-only log for ever. Best effort, by the
forms in which secrets appear in URLs, command lines and headers; a secret in a form of its own is not found. So
`fleet check` warns where a declaration holds one.
Source: docs/spec/declarations.md, Probe kinds.
"""

import re
from typing import Final

REDACTED: Final = "[redacted]"
_NAME: Final = (
    r"[\w.-]*(?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credential|signature)"
    r"[\w.-]*"
)
_FORMS: Final = (
    # scheme://user:password@host
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#@]+@", re.IGNORECASE), rf"\1{REDACTED}@"),
    # Authorization: Bearer abc
    (
        re.compile(r"\b(bearer|basic)\s+(?!\[redacted\])[\w.~+/=-]{8,}", re.IGNORECASE),
        rf"\1 {REDACTED}",
    ),
    # ?token=abc, PASSWORD=abc, --api-key=abc, "secret": "abc"
    (
        re.compile(
            rf"\b({_NAME}[\"']?\s?[=:]\s?[\"']?)(?!\[redacted\])[^\s&\"',;]+", re.IGNORECASE
        ),
        rf"\1{REDACTED}",
    ),
    # --password abc
    (re.compile(rf"(--?{_NAME}\s+)(?!\[redacted\])[^\s-]\S*", re.IGNORECASE), rf"\1{REDACTED}"),
)


def redacted(text: str) -> str:
    """Return `text` with every part that looks like a secret replaced. Idempotent."""
    for form, replacement in _FORMS:
        text = form.sub(replacement, text)
    return text
