"""What must hold whatever happened to whom: what was answered 204 is in the log, once, and as it was lived.

A `Witness` remembers what agents were told is durable. An `Audit` follows a control plane's log, each row once, and
compares it with that and with the hosts' journals.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.messages.log_entry import FactReported
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_proto.agent_event import AgentEvent, OnHealthFailure
from nixfleet_proto.codec import decode_event
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply, Transport
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.replay import replay_host
from tests.faults.site import Host, Site

_POLICY = RolloutPolicy(OnHealthFailure.HALT)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

Place = tuple[str, str, int]
"""A host, a rollout, and the number of a fact of that host in it."""


class Witness:
    """Everything that a control plane said is durable, and how often somebody began to tell it something."""

    def __init__(self) -> None:
        self.acknowledged: dict[Place, AgentEvent] = {}
        self.posts_begun = 0
        self._moved = anyio.Event()

    def note_begun(self) -> None:
        """Somebody posts."""
        self.posts_begun += 1
        self._tell()

    def note_acknowledged(self, envelopes: tuple[AgentEventEnvelope, ...]) -> None:
        """These were answered 204."""
        for envelope in envelopes:
            place = envelope.hostname, envelope.rollout_id, envelope.event.seq
            self.acknowledged[place] = envelope.event
        self._tell()

    def _tell(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    async def more_posts(self, count: int) -> None:
        """Return when `count` more posts have begun; how far they have come, nobody knows."""
        wanted = self.posts_begun + count
        while self.posts_begun < wanted:
            await self._moved.wait()

    async def more_acknowledged(self, count: int) -> None:
        """Return when `count` more facts have been acknowledged."""
        wanted = len(self.acknowledged) + count
        while len(self.acknowledged) < wanted:
            await self._moved.wait()


class WitnessedTransport:
    """A `Transport` whose acknowledgements somebody remembers."""

    def __init__(self, transport: Transport, witness: Witness) -> None:
        self._transport = transport
        self._witness = witness

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        """Return what became of `envelopes`. Raises: TransportFailed."""
        self._witness.note_begun()
        outcome = await self._transport.post_events(envelopes)
        self._witness.note_acknowledged(envelopes[: outcome.accepted])
        return outcome

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        """Return the dispatch that waits for this host. Raises: TransportFailed."""
        return await self._transport.next_dispatch(wait_seconds)

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Return what the two sides need to come together. Raises: TransportFailed."""
        return await self._transport.heartbeat(heartbeat)

    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        """Return the manifest as it was signed. Raises: TransportFailed."""
        return await self._transport.fetch_manifest(rollout_id)


class JournalsAudit(ABC):
    """Compares a log with what was acknowledged, and with the journals of a site's hosts.

    Each method raises AssertionError at what must not be. Subclasses read the log, and `note` each fact in it.
    """

    def __init__(self, site: Site) -> None:
        self.facts: dict[Place, AgentEvent] = {}
        self._site = site
        self._journals = {host.hostname: _Journal(host) for host in site.hosts}

    @property
    @abstractmethod
    def state(self) -> State:
        """What the log comes to, as far as it was read."""

    def note(self, seq: int, entry: FactReported) -> None:
        """Take a fact in row `seq` of the log; each is there once."""
        place = entry.host, entry.rollout_id, entry.fact.seq
        assert place not in self.facts, f"row {seq} reports {place} again"
        self.facts[place] = entry.fact

    def require(self, witness: Witness) -> None:
        """Everything that was acknowledged is in the log, as it was sent."""
        for place, fact in witness.acknowledged.items():
            assert place in self.facts, f"{place} was acknowledged and is not in the log"
            assert self.facts[place] == fact, f"{place} is not what was sent"

    def require_hosts(self) -> None:
        """For every host: the log has a prefix of what it lived, and its record there is what that prefix comes to."""
        for journal in self._journals.values():
            journal.read_on()
        for rollout_id in list(self.state.view.rollouts):
            for mirror in self.state.view.hosts_of(rollout_id):
                lived = self._journals[mirror.hostname]
                assert lived.record_like(mirror) == mirror, f"{mirror} is not what its host lived"


class Audit(JournalsAudit):
    """Follows a control plane's log in SQLite."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._connection = open_for_reading(site.database)
        self._follower = Follower(self._connection)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    @property
    def state(self) -> State:
        """What the log comes to, as far as it was read."""
        return self._follower.state

    def read_on(self) -> None:
        """Read what was committed since; every row that was read before is still there."""
        head: tuple[int] = self._connection.execute("SELECT max(seq) FROM event_log").fetchone()
        assert (head[0] or 0) >= self.state.head_seq, "rows that were committed are gone"
        for applied in self._follower.catch_up():
            if isinstance(applied.logged.entry, FactReported):
                self.note(applied.logged.seq, applied.logged.entry)

    def require_acknowledged(self) -> None:
        """What a journal has as acknowledged is in the log. Journals first: hosts that live go on meanwhile."""
        acknowledged = [
            (host.hostname, rollout_id, seq)
            for host in self._site.hosts
            for rollout_id, seq in _acknowledged(host.journal)
        ]
        self.read_on()
        for place in acknowledged:
            assert place in self.facts, f"{place} was acknowledged and is not in the log"


class _Journal:
    """What a host lived, read from its journal, each row once."""

    def __init__(self, host: Host) -> None:
        self._path = host.journal
        self._last_row = 0
        self._facts: dict[tuple[str, int], AgentEvent] = {}

    def read_on(self) -> None:
        if not self._path.exists():
            return
        sql = "SELECT row_id, rollout_id, seq, fact FROM events WHERE row_id > ? ORDER BY row_id"
        for row_id, rollout_id, seq, fact in _rows(self._path, sql, self._last_row):
            self._facts[rollout_id, seq] = decode_event(fact.encode())
            self._last_row = row_id

    def record_like(self, mirror: HostRolloutState) -> HostRolloutState:
        """Return what this host's first facts, as many as `mirror` knows, make of a fresh record."""
        fresh = HostRolloutState.pending(
            mirror.rollout_id,
            mirror.hostname,
            mirror.channel,
            mirror.target_closure,
            mirror.dispatched_at,
            mirror.soak_due_at,
        )
        seqs = range(1, mirror.last_event_seq + 1)
        missing = [seq for seq in seqs if (mirror.rollout_id, seq) not in self._facts]
        assert not missing, f"{mirror.hostname} never lived {missing} of {mirror.rollout_id}"
        facts = [self._facts[mirror.rollout_id, seq] for seq in seqs]
        # When it was taken in is of no consequence to a record: its times are the agent's own.
        return replay_host(fresh, ((fact, _NEVER) for fact in facts), _POLICY)


def _acknowledged(journal: Path) -> Sequence[tuple[str, int]]:
    return _rows(journal, "SELECT rollout_id, seq FROM events WHERE is_acknowledged = 1")


def _rows(database: Path, sql: str, *values: int) -> Sequence[Any]:
    with closing(
        sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    ) as connection:
        return connection.execute(sql, values).fetchall()
