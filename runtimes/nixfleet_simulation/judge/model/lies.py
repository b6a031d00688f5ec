"""What hosts were told by a control plane that lies. Only what an honest log cannot be held to for that reason is here.

Keys: rollout id, host.
"""

from nixfleet_control_plane.messages.inputs import DispatchAnswer
from nixfleet_runtime.transport import HeartbeatReply
from nixfleet_simulation.nodes.network import Answer


class Lies:
    """Which records of hosts depend on lies.

    dispatched: a lie was a dispatch of it, so the host may count its soak from other times than the log. followed: a
    host with a new journal took over a record that was a lie, or began again what the log has already, or it converged
    by the times of a lie; what it says of that rollout may contradict the log.
    """

    def __init__(self) -> None:
        self.dispatched: set[tuple[str, str]] = set()
        self.followed: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()

    def told(self, hostname: str, answer: Answer) -> None:
        """Note an answer of a control plane that lies."""
        if isinstance(answer, DispatchAnswer) and answer.dispatch is not None:
            self.dispatched.add((answer.dispatch.rollout_id, hostname))
        elif isinstance(answer, HeartbeatReply):
            self._told.update((record.rollout_id, hostname) for record in answer.bootstrap_rollouts)

    def has_followed(self, host: str) -> bool:
        """Return whether `host` followed a lie with a new journal, in any rollout."""
        return any(name == host for _, name in self.followed)

    def note_followed(self, rollout_id: str, host: str) -> None:
        """Note that a host with a new journal began with `rollout_id`."""
        if (rollout_id, host) in self._told or (rollout_id, host) in self.dispatched:
            self.followed.add((rollout_id, host))

    def note_refused_convergence(self, rollout_id: str, host: str) -> None:
        """Note that a convergence was refused: by the times of a dispatch that was a lie, it may be dated too early.

        The host's clock was set back after it acknowledged, and it soaked whole by a clock that is never set.
        """
        if (rollout_id, host) in self.dispatched:
            self.followed.add((rollout_id, host))
