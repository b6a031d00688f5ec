"""Whether a control plane follows or leads: decided from what its store showed and answered. Pure.

One such state belongs to one store in one process, so a process can lead on some stores and follow on others. `now` is
the machine's monotonic time in seconds, suspended time included. It is never compared with another machine's.

What makes two leaders harmless is not here: the store refuses the commits of all but the last that took it. This
module decides who tries to take it, and for how long a leader may answer from memory.
Source: docs/spec/leadership.md.
"""

from typing import TypeAlias, assert_never

from attrs import evolve, frozen

from nixfleet_control_plane.leadership.lease import LeaseSeen, LeaseTerms

# States: "the control plane is …".


@frozen
class Following:
    """Reads the log. is_warm: has read it to its end. seen: the lease when it was last looked at.

    rung_at: when the doorbell rang, while the lease was held.
    """

    is_warm: bool = False
    seen: LeaseSeen | None = None
    rung_at: float | None = None


@frozen
class TakingOver:
    """Has asked the store for the lease. seen: as it was, and free. is_stopping: wants to end after the answer."""

    seen: LeaseSeen
    is_stopping: bool = False


@frozen
class Leading:
    """Has the lease. renewed_at: when the last request that renewed it was sent.

    renewal_sent_at: of the one under way. retry_at: after one that had no answer, when to send the next.
    doubted_at: when a session with the store broke; what was sent before proves nothing any more.
    """

    epoch: int
    renewed_at: float
    renewal_sent_at: float | None = None
    retry_at: float | None = None
    doubted_at: float | None = None


@frozen
class HandingOver:
    """Refuses new requests, answers accepted ones, and then gives the lease away. leading: how it leads until then."""

    leading: Leading


@frozen
class Fenced:
    """Another one has the lease, or what is durable is not known. What is in memory is dropped. epoch: the own one."""

    epoch: int


@frozen
class Ended:
    """Takes no part any more."""


Leadership: TypeAlias = Following | TakingOver | Leading | HandingOver | Fenced | Ended


# Inputs: what happened.


@frozen
class Looked:
    """The store showed the lease."""

    seen: LeaseSeen


@frozen
class CaughtUp:
    """The log was read to its end, as far as it was known then."""


@frozen
class Rang:
    """The doorbell: the session of the process that had it is over."""


@frozen
class LogLost:
    """What was read is not what the log has, or it could not be read: it is read anew."""


@frozen
class Taken:
    """The lease was taken. sent_at: when the request was sent."""

    epoch: int
    sent_at: float


@frozen
class NotTaken:
    """The lease was not taken, or the answer was lost."""


@frozen
class Renewed:
    """A commit or a renewal succeeded. sent_at: when it was sent."""

    sent_at: float


@frozen
class NotRenewed:
    """A renewal had no answer."""


@frozen
class SessionBroke:
    """A session with the store ended, and this process did not end it."""


@frozen
class Replaced:
    """The store refused a commit or a renewal, or what became of a commit could not be found out."""


@frozen
class TermEnded:
    """Nothing is left of a term: no request is answered from its memory, no worker of it runs."""


@frozen
class StopAsked:
    """The process is to end."""


@frozen
class Drained:
    """Every accepted request is answered."""


@frozen
class TimePassed:
    """Nothing else happened."""


Happening: TypeAlias = (
    Looked
    | CaughtUp
    | Rang
    | LogLost
    | Taken
    | NotTaken
    | Renewed
    | NotRenewed
    | SessionBroke
    | Replaced
    | TermEnded
    | StopAsked
    | Drained
    | TimePassed
)


# Orders.


@frozen
class Take:
    """Ask the store for the lease, if it is still as `seen`."""

    seen: LeaseSeen


@frozen
class BeginTerm:
    """Serve hosts and operators, under this epoch."""

    epoch: int


@frozen
class Renew:
    """Renew the lease."""


@frozen
class EndTerm:
    """Stop serving at once, and drop what is in memory."""


@frozen
class Drain:
    """Refuse new requests, answer the accepted ones."""


@frozen
class HandOver:
    """Give the lease away, if it is still the own one."""


Order: TypeAlias = Take | BeginTerm | Renew | EndTerm | Drain | HandOver

_NOTHING: tuple[Order, ...] = ()


def decide(
    leadership: Leadership, happened: Happening, now: float, terms: LeaseTerms
) -> tuple[Leadership, tuple[Order, ...]]:
    """Return the next state, and the orders to carry out. What cannot have happened in a state changes nothing."""
    match leadership:
        case Following():
            return _following(leadership, happened, now)
        case TakingOver():
            return _taking_over(leadership, happened)
        case Leading():
            return _leading(leadership, happened, now, terms)
        case HandingOver():
            return _handing_over(leadership, happened, now, terms)
        case Fenced():
            return _fenced(leadership, happened)
        case Ended():
            return leadership, _NOTHING
        case _:
            assert_never(leadership)


def may_answer(leadership: Leadership, now: float, terms: LeaseTerms) -> bool:
    """Return whether what is in memory is what the store has: no other process can have taken the lease yet."""
    match leadership:
        case Leading():
            return _is_certain(leadership, now, terms)
        case HandingOver():
            return _is_certain(leadership.leading, now, terms)
        case Following() | TakingOver() | Fenced() | Ended():
            return False
        case _:
            assert_never(leadership)


def next_due(leadership: Leadership, now: float, terms: LeaseTerms) -> float | None:
    """Return the time of the next look or renewal; `None`: nothing is due until something happens."""
    match leadership:
        case Following():
            rung_at = leadership.rung_at
            is_rung = rung_at is not None and now < rung_at + terms.seconds
            return now + (terms.rung_look_seconds if is_rung else terms.look_seconds)
        case Leading():
            return _renewal_due(leadership, terms)
        case HandingOver():
            return _renewal_due(leadership.leading, terms)
        case TakingOver() | Fenced() | Ended():
            return None
        case _:
            assert_never(leadership)


def _is_certain(leading: Leading, now: float, terms: LeaseTerms) -> bool:
    return (
        leading.doubted_at is None
        and now < leading.renewed_at + terms.seconds - terms.margin_seconds
    )


def _renewal_due(leading: Leading, terms: LeaseTerms) -> float | None:
    if leading.renewal_sent_at is not None:
        return None
    if leading.retry_at is not None:
        return leading.retry_at
    if leading.doubted_at is not None:
        return leading.doubted_at
    return leading.renewed_at + terms.renewal_seconds


def _following(
    following: Following, happened: Happening, now: float
) -> tuple[Leadership, tuple[Order, ...]]:
    match happened:
        case Looked():
            seen = happened.seen
            if seen.is_free and following.is_warm:
                return TakingOver(seen), (Take(seen),)
            # A holder that is not the one whose doorbell rang has it now.
            before = following.seen
            is_same = before is None or before.epoch == seen.epoch
            return evolve(following, seen=seen, rung_at=following.rung_at if is_same else None), ()
        case CaughtUp():
            return evolve(following, is_warm=True), _NOTHING
        case LogLost():
            return evolve(following, is_warm=False), _NOTHING
        case Rang():
            return evolve(following, rung_at=now), _NOTHING
        case StopAsked():
            return Ended(), _NOTHING
        case Taken() | NotTaken() | Renewed() | NotRenewed() | SessionBroke() | Replaced():
            return following, _NOTHING
        case TermEnded() | Drained() | TimePassed():
            return following, _NOTHING
        case _:
            assert_never(happened)


def _taking_over(taking: TakingOver, happened: Happening) -> tuple[Leadership, tuple[Order, ...]]:
    match happened:
        case Taken():
            leading = Leading(happened.epoch, happened.sent_at)
            if taking.is_stopping:
                return HandingOver(leading), (Drain(),)
            return leading, (BeginTerm(happened.epoch),)
        case NotTaken() | Replaced():
            return (Ended() if taking.is_stopping else Following(is_warm=True)), _NOTHING
        case LogLost():
            return (Ended() if taking.is_stopping else Following()), _NOTHING
        case StopAsked():
            return evolve(taking, is_stopping=True), _NOTHING
        case Looked() | CaughtUp() | Rang() | Renewed() | NotRenewed() | SessionBroke():
            return taking, _NOTHING
        case TermEnded() | Drained() | TimePassed():
            return taking, _NOTHING
        case _:
            assert_never(happened)


def _leading(
    leading: Leading, happened: Happening, now: float, terms: LeaseTerms
) -> tuple[Leadership, tuple[Order, ...]]:
    match happened:
        case StopAsked():
            return HandingOver(leading), (Drain(),)
        case Replaced():
            return Fenced(leading.epoch), (EndTerm(),)
        case _:
            return _renewing(leading, happened, now, terms)


def _renewing(
    leading: Leading, happened: Happening, now: float, terms: LeaseTerms
) -> tuple[Leading, tuple[Order, ...]]:
    match happened:
        case Renewed():
            return _renewed(leading, happened.sent_at), _NOTHING
        case NotRenewed():
            retry_at = now + terms.look_seconds
            return evolve(leading, renewal_sent_at=None, retry_at=retry_at), _NOTHING
        case SessionBroke():
            return evolve(leading, doubted_at=now), _NOTHING
        case TimePassed():
            due = _renewal_due(leading, terms)
            if due is None or now < due:
                return leading, _NOTHING
            return evolve(leading, renewal_sent_at=now, retry_at=None), (Renew(),)
        case Looked() | CaughtUp() | Rang() | LogLost() | Taken() | NotTaken():
            return leading, _NOTHING
        case Replaced() | TermEnded() | StopAsked() | Drained():
            return leading, _NOTHING
        case _:
            assert_never(happened)


def _renewed(leading: Leading, sent_at: float) -> Leading:
    doubted_at, under_way = leading.doubted_at, leading.renewal_sent_at
    return evolve(
        leading,
        renewed_at=max(leading.renewed_at, sent_at),
        doubted_at=None if doubted_at is None or sent_at > doubted_at else doubted_at,
        renewal_sent_at=None if under_way is None or sent_at >= under_way else under_way,
        retry_at=None,
    )


def _handing_over(
    handing: HandingOver, happened: Happening, now: float, terms: LeaseTerms
) -> tuple[Leadership, tuple[Order, ...]]:
    match happened:
        case Drained():
            return Ended(), (HandOver(),)
        case Replaced():
            return Ended(), (EndTerm(),)
        case _:
            leading, orders = _renewing(handing.leading, happened, now, terms)
            return HandingOver(leading), orders


def _fenced(fenced: Fenced, happened: Happening) -> tuple[Leadership, tuple[Order, ...]]:
    match happened:
        case TermEnded():
            return Following(), _NOTHING
        case StopAsked():
            return Ended(), _NOTHING
        case _:
            return fenced, _NOTHING
