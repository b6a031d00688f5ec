"""The pages of what is barred, refused, enrolled and silent. Frozen data, and its JSON form.

`next` of a page is the `after` of the following request; the last page has none. Texts may quote hosts and operators.
Source: docs/spec/wire.md, Operator calls.
"""

from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.checked import WordEnum
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.ids import RolloutId


@frozen
class ListedQuarantine:
    """A closure that is not dispatched on a channel. since: `None`: not known. row: of the log, that barred it.

    waiting: hosts of rollouts that are served and wait for it.
    """

    channel: str
    closure: str
    waiting: int
    since: datetime | None = None
    row: int | None = None


@frozen
class QuarantinePage:
    """Quarantines in force, by channel and closure."""

    quarantines: tuple[ListedQuarantine, ...]
    next: str | None = None


class RefusalKind(WordEnum):
    """What is refused. The values are the wire's.

    ARTEFACT: of the release directory, by the control plane. ACTING: by a host's agent, which does not act on
    something. EVENT: of a host, by the control plane.
    """

    ARTEFACT = "artefact"
    ACTING = "acting"
    EVENT = "event"


@frozen
class ListedRefusal:
    """Something that is refused, and why. name: of an artefact. seq: of an event. since: `None`: not known."""

    kind: RefusalKind
    reason: str
    name: str | None = None
    hostname: str | None = None
    rollout_id: str | None = None
    seq: int | None = None
    since: datetime | None = None


@frozen
class RefusalPage:
    """What is refused now: artefacts, then what agents do not act on, then events of hosts."""

    refused: tuple[ListedRefusal, ...]
    next: str | None = None


class EnrollmentStanding(WordEnum):
    """How a host stands to the fleet; completes "the host is …". The values are the wire's.

    DECLARED: the signed fleet has its key. ENROLLED: by a token. REVOKED: its key is. AWAITED: a token for it is
    listed and not used. KNOCKING: it asked, and was refused.
    """

    DECLARED = "declared"
    ENROLLED = "enrolled"
    REVOKED = "revoked"
    AWAITED = "awaited"
    KNOCKING = "knocking"


@frozen
class ListedEnrollment:
    """A host and its key. fingerprint: of the key; `None`: it has none yet. since: of its standing; `None`: not known.

    until: when its token expires. reason: why it was refused, or revoked. count: how often it was refused.
    last_heard_at: its last request since the control plane started.
    """

    hostname: str
    standing: EnrollmentStanding
    fingerprint: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    reason: str | None = None
    count: int = 0
    last_heard_at: datetime | None = None


@frozen
class EnrollmentPage:
    """Hosts, by name. One that knocks although it has a standing has two entries, the refusal last."""

    enrollments: tuple[ListedEnrollment, ...]
    next: str | None = None


@frozen
class SilentHost:
    """A host that is not heard of. since: its last request; `None`: there was none since the control plane started.

    rollouts: those that serve it.
    """

    hostname: str
    since: datetime | None = None
    rollouts: tuple[RolloutId, ...] = ()


@frozen
class SilentPage:
    """Hosts whose key is known and that were not heard of for three minutes, by name.

    started_at: when the control plane began to listen: who was not heard of since then may have been before.
    """

    hosts: tuple[SilentHost, ...]
    started_at: datetime
    next: str | None = None


_SPELLING: Final = Spelling(camel_case, Absent.LEFT_OUT)
QUARANTINE_PAGE: Final = Coder[QuarantinePage](_SPELLING, QuarantinePage, "list of quarantines")
REFUSAL_PAGE: Final = Coder[RefusalPage](_SPELLING, RefusalPage, "list of refusals")
ENROLLMENT_PAGE: Final = Coder[EnrollmentPage](_SPELLING, EnrollmentPage, "list of enrollments")
SILENT_PAGE: Final = Coder[SilentPage](_SPELLING, SilentPage, "list of silent hosts")
