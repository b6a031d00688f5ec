"""Whether a release cut this host off from its control plane, or the control plane is away. Pure.

A host is blamed for its silence only if it was home just before the switch, and has not been for a while since. Where
the declaration names a second address, an answer from there shows that the network works, and that the control plane
is away for all. Without one, the two look alike, and the host goes back.
Source: docs/spec/warrants.md, Coming home.
"""

from datetime import datetime, timedelta
from typing import Final

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.messages.inputs import HomeLooked
from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, failed
from nixfleet_proto.health_check import HomeProbe

HOME_BEFORE: Final = timedelta(minutes=5)
"""How long before its switch a host had an answer, at most, to count as home. Polls and heartbeats take a minute."""


def home_outcome(
    check: HomeProbe, rollout: LocalRollout, looked: HomeLooked, now: datetime
) -> ProbeOutcome | None:
    """Return the result of a look at the contact of a host that soaks; `None` when it shows nothing yet.

    A host that was not home before has nothing to lose, so it passes. One that was passes with an answer since its
    activation, and as long as the latest one is at most `max_silence_secs` old.
    """
    if not was_home(rollout):
        return PASSED
    activated_at = rollout.record.activation_completed_at or now
    answered_at = looked.answered_at
    is_home_again = answered_at is not None and answered_at >= activated_at
    silent_since = max(activated_at, looked.listening_since, answered_at or activated_at)
    silence = now - silent_since
    if silence <= timedelta(seconds=check.max_silence_secs):
        return PASSED if is_home_again else None
    if looked.second_answers:
        return PASSED
    expected = f"an answer of the control plane within {check.max_silence_secs} s"
    found = f"none for {silence.total_seconds():.0f} s"
    if looked.second_answers is False:
        found += f", and none from {check.second_address}"
    return failed(expected, found)


def was_home(rollout: LocalRollout) -> bool:
    """Return whether the control plane answered this host shortly before its switch began."""
    began_at = rollout.record.activation_started_at
    if rollout.home_at is None or began_at is None:
        return False
    return began_at - rollout.home_at <= HOME_BEFORE
