"""Whether a release cut this host off from its control plane, or the control plane is away. Pure.

A host is blamed for its silence only if it was home just before the switch, and has not been for a while since. Where
the declaration names a second address, an answer from there shows that the network works, and that the control plane
is away for all. Without one, the two look alike, and the host goes back.
Silence is measured by the time that was seen to pass in the soak, as the soak itself: a clock that is set forward makes
nobody silent, and one that is set back hides no silence.
Source: docs/spec/warrants.md, Coming home.
"""

from datetime import datetime, timedelta
from typing import Final

from nixfleet_agent.engine.observation import Contact, Observed
from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, failed
from nixfleet_proto.health_check import HomeProbe

HOME_BEFORE: Final = timedelta(minutes=5)
"""How long before its switch a host had an answer, at most, to count as home. Polls and heartbeats take a minute."""


def seen_after(
    observed: Observed,
    answered_at: datetime | None,
    activated_at: datetime,
    place: timedelta,
    now: datetime,
) -> Contact:
    """Return what is known of the contact after a look.

    answered_at: the latest answer, by the clock of its time. place: how much of the soak was seen to pass.
    An answer that is not the one of the look before came after that one, whatever the clock says. Of the first look
    alone, the clock says whether the answer was before the activation.
    """
    before = observed.contact
    if answered_at is None or (before is not None and before.answered_at == answered_at):
        return Contact(answered_at, None if before is None else before.heard_place, place)
    if before is None and answered_at < activated_at:
        return Contact(answered_at, None, place)
    looked_place = timedelta() if before is None else before.looked_place
    age = min(max(now - answered_at, timedelta()), place - looked_place)
    return Contact(answered_at, place - age, place)


def home_outcome(
    check: HomeProbe, rollout: LocalRollout, observed: Observed, second_answers: bool | None
) -> ProbeOutcome | None:
    """Return the result of the latest look at the contact of a host that soaks; `None` when it shows nothing yet.

    A host that was not home before has nothing to lose, so it passes. One that was passes with an answer since its
    activation, and as long as the latest one is at most `max_silence_secs` old.
    """
    contact = observed.contact
    if contact is None or not was_home(rollout):
        return PASSED
    heard_place = contact.heard_place
    silence = contact.looked_place - max(observed.began_place, heard_place or timedelta())
    if silence <= timedelta(seconds=check.max_silence_secs):
        return None if heard_place is None else PASSED
    if second_answers:
        return PASSED
    expected = f"an answer of the control plane within {check.max_silence_secs} s"
    found = f"none for {silence.total_seconds():.0f} s"
    if second_answers is False:
        found += f", and none from {check.second_address}"
    return failed(expected, found)


def was_home(rollout: LocalRollout) -> bool:
    """Return whether the control plane answered this host shortly before its switch began."""
    began_at = rollout.record.activation_started_at
    if rollout.home_at is None or began_at is None:
        return False
    return began_at - rollout.home_at <= HOME_BEFORE
