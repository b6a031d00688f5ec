"""The guards of a wave as they are listed: each with how far it is, in words."""

from nixfleet_control_plane.engine.guard_verdicts import GuardedRollout
from nixfleet_runtime.http.listings import ListedGuard, ListedGuards
from nixfleet_state_machine.planner.guards.words import guard_line


def listed_guards(found: GuardedRollout | None) -> ListedGuards | None:
    """Return the guards of a wave as they are listed."""
    if found is None:
        return None
    return ListedGuards(
        found.guarded.wave,
        found.manifest_hash,
        tuple(
            ListedGuard(
                guard.name,
                guard.state,
                guard_line(guard, found.declared, found.author),
                guard.name in found.declared.waivable,
                guard.until,
            )
            for guard in found.guarded.guards
        ),
        found.guarded.since,
    )
