"""Collects what one input comes to. It decides nothing."""

from nixfleet_control_plane.messages.inputs import Action, Reply
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import Write
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_state_machine.host.effect import RecordTransition


class CommitBuilder:
    """The writes and actions of one commit, in order."""

    def __init__(self) -> None:
        self._writes: list[Write] = []
        self._actions: list[Action] = []
        self._transitions: list[RecordTransition] = []

    def write(self, write: Write) -> None:
        """Add a write after those that are there."""
        self._writes.append(write)

    def afterwards(self, action: Action) -> None:
        """Add something to do once the writes are durable."""
        self._actions.append(action)

    def note_transition(self, transition: RecordTransition) -> None:
        """A host moved; its rollout has to be told."""
        self._transitions.append(transition)

    def take_transitions(self) -> tuple[RecordTransition, ...]:
        """Return the transitions noted since the last call."""
        if not self._transitions:
            return ()
        taken = tuple(self._transitions)
        self._transitions.clear()
        return taken

    @property
    def writes(self) -> tuple[Write, ...]:
        return tuple(self._writes)

    @property
    def log_rows(self) -> tuple[LogRow, ...]:
        return tuple([write for write in self._writes if isinstance(write, LogRow)])

    def built(self, reply: Reply) -> Commit[Write, Reply, Action]:
        """Return the commit."""
        return Commit(tuple(self._writes), reply, tuple(self._actions))
