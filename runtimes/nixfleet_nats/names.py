"""The names of everything on the server: subjects, buckets, keys, inboxes. Pure.

A host's name may have any character; a subject's token and a key may not, and dots, stars and `>` would change what a
subject means. So a name is encoded, and two names never have the same token.
Source: docs/spec/nats.md, Names.
"""

import re
from enum import StrEnum
from typing import Final

from attrs import frozen

PREFIX_DEFAULT: Final = "nf"
PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
CALLOUT_SUBJECT: Final = "$SYS.REQ.USER.AUTH"
"""Where a server asks whether a connection may be."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")
_TOKEN: Final = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+")
_ESCAPE: Final = re.compile(r"=([0-9A-F]{2})")


def token_of(name: str) -> str:
    """Return `name` as one token of a subject and as a key: letters, digits, `-`, `_`; other bytes as `=` and hex."""
    if _PLAIN.fullmatch(name):
        return name
    return "".join(
        chr(byte) if _PLAIN.fullmatch(chr(byte)) else f"={byte:02X}" for byte in name.encode()
    )


def name_of(token: str) -> str | None:
    """Return the name whose token this is; `None` if it is the token of none."""
    if not _TOKEN.fullmatch(token):
        return None
    try:
        name = _ESCAPE.sub(lambda it: chr(int(it[1], 16)), token).encode("latin-1").decode()
    except UnicodeDecodeError:
        return None
    return name if token_of(name) == token else None


class Kind(StrEnum):
    """What a host asks: the last token of its subjects."""

    EVENTS = "events"
    HEARTBEAT = "heartbeat"
    DISPATCH = "dispatch"
    MANIFEST = "manifest"


class Bucket(StrEnum):
    """The buckets, without the prefix. All are projections: nothing that decides reads them."""

    DESIRED_STATE = "desired-state"
    DEVICE_INFO = "device-info"
    DEVICE_STATE = "device-state"
    DEVICE_HEARTBEAT = "device-heartbeat"


@frozen
class Names:
    """The names of one fleet. prefix: tells the fleets of an account apart."""

    prefix: str = PREFIX_DEFAULT

    def up(self, hostname: str, kind: Kind) -> str:
        """Return the subject on which the host asks."""
        return f"{self.prefix}.up.{token_of(hostname)}.{kind}"

    def all_up_of(self, hostname: str) -> str:
        """Return the subjects of a host, as one: a server keeps a tree for each connection."""
        return f"{self.prefix}.up.{token_of(hostname)}.*"

    @property
    def all_up(self) -> str:
        """The subjects of all hosts."""
        return f"{self.prefix}.up.*.*"

    def caller(self, subject: str) -> tuple[str, Kind] | None:
        """Return the host that asks on `subject`, and what; `None` if it is no such subject."""
        before, token, kind = ["", "", *subject.rsplit(".", 2)][-3:]
        hostname = name_of(token)
        if before != f"{self.prefix}.up" or hostname is None or kind not in set(Kind):
            return None
        return hostname, Kind(kind)

    def enroll(self, nkey: str) -> str:
        """Return the subject on which the owner of a key that is not known asks to be enrolled."""
        return f"{self.prefix}.enroll.{nkey}"

    @property
    def all_enroll(self) -> str:
        """The subjects of all that enroll."""
        return f"{self.prefix}.enroll.*"

    def inbox(self, nkey: str) -> str:
        """Return the beginning of the subjects at which the owner of a key is answered."""
        return f"_INBOX.{self.prefix}.{nkey}"

    def bucket(self, bucket: Bucket) -> str:
        """Return the name of a bucket."""
        return f"{self.prefix}-{bucket}"

    def key_subject(self, bucket: Bucket, key: str) -> str:
        """Return the subject on which the values of a key are published."""
        return f"$KV.{self.bucket(bucket)}.{key}"

    def desired_state(self, hostname: str) -> str:
        """Return the subject on which the host's dispatches are published."""
        return self.key_subject(Bucket.DESIRED_STATE, token_of(hostname))
