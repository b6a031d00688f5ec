"""Text from elsewhere, made safe to show: one line, in which every character can be seen. Pure.

What a host, a fleet file, a token, a release, a path or a peer says may hold escape sequences, line ends that forge
rows, or marks that reorder what stands beside them. Whatever prints a text or writes it to a log for people passes
it through `visible` as the last step. Stored data and signed bytes are never changed.
"""

from typing import Final

_CUT: Final = " […] "
_ONE_BYTE_MAX: Final = 0xFF
_TWO_BYTES_MAX: Final = 0xFFFF


def visible(text: str) -> str:
    r"""Return `text` on one line, with every character that is not printable as `\xNN`, `\uNNNN` or `\UNNNNNNNN`.

    Not printable, as `str.isprintable` has it: C0 and C1 controls, DEL, line ends, format characters (bidirectional
    marks, embeddings, overrides and isolates, zero-width characters), line and paragraph separators, blanks other
    than the space, surrogates, private and unassigned characters. Idempotent: a backslash stays as it is, so a text
    that already reads `\x1b` cannot be told from an escaped one; either is harmless.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(ord(each)) for each in text)


def shortened(text: str, length_max: int) -> str:
    """Return `text`, without its middle if it is longer than `length_max`: an error's last words matter as its first.

    length_max: at least 10 characters.
    """
    if len(text) <= length_max:
        return text
    half = (length_max - len(_CUT)) // 2
    return f"{text[:half]}{_CUT}{text[-half:]}"


def _escaped(code: int) -> str:
    if code <= _ONE_BYTE_MAX:
        return f"\\x{code:02x}"
    if code <= _TWO_BYTES_MAX:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"
