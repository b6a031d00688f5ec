"""For how long a signature is accepted: the window that a release declares, and a receiver's own limit. Pure.

Source: docs/spec/trust.md, Freshness.
"""

from typing import Final

from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.manifest import RolloutManifest

FRESHNESS_WINDOW_MINUTES: Final = 180
"""The window where neither side says anything."""


def freshness_window(declared: int | None, limit: int | None) -> int:
    """Return the window in minutes: the declared one, but never more than `limit`, the receiver's own option."""
    given = [minutes for minutes in (declared, limit) if minutes is not None]
    return min(given, default=FRESHNESS_WINDOW_MINUTES)


def declared_window(artefact: object) -> int | None:
    """Return the window that an artefact declares, in minutes; `None` for lists, and for manifests without one.

    A fleet is accepted for as long as the longest window of its channels: each manifest has its own.
    """
    if isinstance(artefact, FleetResolved):
        return max((it.freshness_window for it in artefact.channels.values()), default=None)
    return artefact.freshness_window_minutes if isinstance(artefact, RolloutManifest) else None
