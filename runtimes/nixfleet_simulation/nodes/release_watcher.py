"""The release watcher: what the production scanner makes of the release directory is posted to the control plane."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from nixfleet_control_plane.messages.inputs import Reply
from nixfleet_control_plane.releases.scan import ReleaseInput, ReleaseScanner
from nixfleet_proto.wire import SignedArtefact
from nixfleet_simulation.nodes.agenda import SECOND, Agenda
from nixfleet_simulation.nodes.ci import ReleaseDirectory
from nixfleet_simulation.nodes.control_plane import ControlPlaneNode
from nixfleet_simulation.nodes.release_exchange import ReleaseExchange
from nixfleet_simulation.scenario.scenario import FRESHNESS_WINDOW_MINUTES

IDLE_SCANS_EVERY: Final = 10
"""Of the scans that find the same files as before, one in this many is made."""


class ReleaseWatcher:
    """Reads the directory regularly. It starts and ends with the control plane: a start reads everything again."""

    def __init__(
        self,
        agenda: Agenda,
        directory: ReleaseDirectory,
        exchange: ReleaseExchange,
        control_plane: ControlPlaneNode,
        every_seconds: float,
    ) -> None:
        self._agenda = agenda
        self._directory = directory
        self._exchange = exchange
        self._control_plane = control_plane
        self._every = int(every_seconds * SECOND)
        self._starts = 0
        self._trust = directory.trust
        self._scanner = ReleaseScanner(self._trust, FRESHNESS_WINDOW_MINUTES)
        self._is_posting = False
        self._files: Mapping[str, SignedArtefact] | None = None
        self._idle = 0

    def look(self) -> None:
        """Post what is new, and read again later."""
        control_plane = self._control_plane
        if control_plane.starts != self._starts:
            self._starts = control_plane.starts
            self._trust = self._directory.trust
            self._scanner = ReleaseScanner(self._trust, FRESHNESS_WINDOW_MINUTES)
            self._is_posting = False
            self._idle = 0
        if control_plane.is_up and not self._is_posting:
            self._scan()
        self._agenda.after(self._every, None, self.look)

    def _scan(self) -> None:
        if self._trust is not self._directory.trust:
            self._trust = self._directory.trust
            self._scanner.use_trust(self._trust)
            self._idle = 0
        files = self._exchange.files()
        self._idle = self._idle + 1 if files is self._files else 0
        self._files = files
        # The same files give the same again, except that time passes.
        if files is not None and (self._idle < 3 or self._idle % IDLE_SCANS_EVERY == 0):
            inputs = self._scanner.scan(files, self._control_plane.clock.now())
            if inputs:
                self._idle = 0
            self._post(self._starts, inputs)

    def _post(self, starts: int, inputs: Sequence[ReleaseInput]) -> None:
        """Post the inputs one after the other, until one cannot be made durable."""
        self._is_posting = bool(inputs)
        if inputs:
            took = partial(self._took, starts, inputs)
            self._control_plane.post(inputs[0], took, partial(self._failed, starts))

    def _took(self, starts: int, inputs: Sequence[ReleaseInput], _: Reply) -> None:
        if starts == self._starts:
            self._scanner.done(inputs[0])
            self._post(starts, inputs[1:])

    def _failed(self, starts: int, _: Exception) -> None:
        if starts == self._starts:
            self._is_posting = False
