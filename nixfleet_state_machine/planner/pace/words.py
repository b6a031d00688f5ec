"""A pace in words, alike in reasons of a gate, in listings and in what a release changes."""

from nixfleet_proto.fleet import Ramp


def pace_words(ramp: Ramp | None, max_per_minute: int | None) -> str:
    """Return what a budget says beyond its limit, to be put after it; empty if it says nothing."""
    growth = "" if ramp is None else f", growing {ramp}"
    return growth if max_per_minute is None else f"{growth}, {max_per_minute} a minute"
