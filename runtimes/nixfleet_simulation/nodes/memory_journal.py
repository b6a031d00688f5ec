"""A journal in memory, in dicts. A `Journal`, held to the contract suite of `SqliteJournal`.

A host reads its journal at every send, and a simulation has no time for SQL there. The production journal gets
every commit too, from the disk, before anything is read from it after a crash; the two must then agree.
"""

from collections.abc import Collection, Sequence
from itertools import islice
from typing import assert_never

from attrs import define, evolve

from nixfleet_agent.engine.downgrade import ObeyedRelease, RolledBackClosure
from nixfleet_agent.engine.state import LocalRollout, ObeyedOrder
from nixfleet_agent.journal.journal import JournalRow, JournalSnapshot
from nixfleet_agent.messages.inputs import Intent
from nixfleet_agent.messages.writes import (
    AppendEvent,
    MarkAcknowledged,
    MarkRefused,
    MarkUnsent,
    PutIntent,
    PutNewestRelease,
    PutOrder,
    PutRecord,
    PutRolledBack,
    RemoveIntent,
    RemoveRollout,
    SetRolloutAside,
    Write,
)
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId


class FactTwice(NixfleetError):
    """A seq of a rollout belongs to another fact already. The commit changed nothing."""

    def __init__(self, rollout_id: str, seq: int) -> None:
        super().__init__(rollout_id, seq)
        self.rollout_id = rollout_id
        self.seq = seq

    def __str__(self) -> str:
        return f"{self.rollout_id} has a fact {self.seq} already"


@define
class _Row:
    row: JournalRow
    is_acknowledged: bool = False
    is_refused: bool = False

    @property
    def is_unsent(self) -> bool:
        return not self.is_acknowledged and not self.is_refused


class MemoryJournal:
    """The rows, records and intents of one host."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}
        # Never given again, after a removal either.
        self._last_row_id = 0
        self._unsent: dict[int, JournalRow] = {}
        self._is_sorted = True
        self._rollouts: dict[RolloutId, LocalRollout] = {}
        self._intents: dict[int, Intent] = {}
        self._facts: set[tuple[str, int]] = set()
        self._last_intent_id = 0
        self._newest_release: ObeyedRelease | None = None
        self._rolled_back: dict[str, RolledBackClosure] = {}
        self._orders: dict[str, ObeyedOrder] = {}

    def load(self) -> JournalSnapshot:
        """Return the committed contents."""
        return JournalSnapshot(
            tuple(self._rollouts[rollout_id] for rollout_id in sorted(self._rollouts)),
            tuple(self._intents[intent_id] for intent_id in sorted(self._intents)),
            self._last_intent_id,
            self._newest_release,
            tuple(self._rolled_back[closure] for closure in sorted(self._rolled_back)),
            FrozenMap(sorted(self._orders.items())),
        )

    def commit(self, writes: Sequence[Write]) -> None:
        """Store all of `writes`, in order and atomically. Raises: FactTwice, and nothing has changed."""
        self._require_new_facts(writes)
        for write in writes:
            self._keep(write)

    def _require_new_facts(self, writes: Sequence[Write]) -> None:
        fresh: set[tuple[str, int]] = set()
        for write in writes:
            if isinstance(write, AppendEvent):
                key = write.rollout_id, write.fact.seq
                if key in self._facts or key in fresh:
                    raise FactTwice(*key)
                fresh.add(key)
        self._facts |= fresh

    def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        """Return the oldest rows neither acknowledged nor refused, up to `limit`, except those of `excluding`."""
        if not self._is_sorted:
            self._unsent = dict(sorted(self._unsent.items()))
            self._is_sorted = True
        rows = (row for row in self._unsent.values() if row.rollout_id not in excluding)
        return tuple(islice(rows, limit))

    def unsent_rollouts(self) -> frozenset[RolloutId]:
        """Return the rollouts with unsent facts."""
        return frozenset(row.rollout_id for row in self._unsent.values())

    def last_seqs(self) -> FrozenMap[str, int]:
        """Return the seq of the last fact of each rollout, committed or bootstrapped."""
        return FrozenMap(
            {str(id_): kept.record.last_event_seq for id_, kept in self._rollouts.items()}
        )

    def close(self) -> None:
        """Do nothing: there are no resources."""

    def _keep(self, write: Write) -> None:
        match write:
            case PutRecord():
                kept = LocalRollout(
                    write.record, write.policy, write.closed_at, write.taken_over_seq, write.home_at
                )
                self._rollouts[write.record.rollout_id] = kept
            case AppendEvent():
                # As SQLite numbers rows: one more than the highest there ever was.
                self._last_row_id += 1
                row_id = self._last_row_id
                self._put(JournalRow(row_id, write.rollout_id, write.fact))
            case MarkAcknowledged():
                for row_id in write.row_ids:
                    self._mark(row_id, is_acknowledged=True)
            case MarkRefused():
                if write.row_id in self._rows:
                    self._rows[write.row_id].is_refused = True
                    self._unsent.pop(write.row_id, None)
            case MarkUnsent():
                for row_id, row in self._rows.items():
                    is_meant = row.row.rollout_id == write.rollout_id
                    if is_meant and row.row.fact.seq >= write.from_seq:
                        row.is_refused = False
                        self._mark(row_id, is_acknowledged=False)
            case PutIntent():
                self._intents[write.intent.intent_id] = write.intent
                self._last_intent_id = max(self._last_intent_id, write.intent.intent_id)
            case RemoveIntent():
                self._intents.pop(write.intent_id, None)
            case RemoveRollout():
                self._remove(write.rollout_id)
            case SetRolloutAside():
                self._set_aside(write.rollout_id, f"{write.rollout_id} set aside {write.at}")
            case PutNewestRelease():
                self._newest_release = write.release
            case PutOrder():
                self._orders[write.order_id] = ObeyedOrder(
                    write.rollout_id, write.is_recall, write.overrides_until
                )
            case PutRolledBack():
                self._rolled_back[write.left.closure] = write.left
            case _:
                assert_never(write)

    def _put(self, row: JournalRow) -> None:
        self._rows[row.row_id] = _Row(row)
        self._unsent[row.row_id] = row

    def _mark(self, row_id: int, *, is_acknowledged: bool) -> None:
        row = self._rows.get(row_id)
        if row is None:
            return
        row.is_acknowledged = is_acknowledged
        if not row.is_unsent:
            self._unsent.pop(row_id, None)
        elif row_id not in self._unsent:
            self._unsent[row_id] = row.row
            self._is_sorted = False

    def _set_aside(self, rollout_id: RolloutId, name: str) -> None:
        self._rollouts.pop(rollout_id, None)
        for row_id, row in self._rows.items():
            if row.row.rollout_id == rollout_id:
                self._facts.discard((rollout_id, row.row.fact.seq))
                self._unsent.pop(row_id, None)
                row.row, row.is_refused = evolve(row.row, rollout_id=RolloutId(name)), True

    def _remove(self, rollout_id: RolloutId) -> None:
        self._rollouts.pop(rollout_id, None)
        for row_id in [id_ for id_, row in self._rows.items() if row.row.rollout_id == rollout_id]:
            row = self._rows.pop(row_id).row
            self._facts.discard((rollout_id, row.fact.seq))
            self._unsent.pop(row_id, None)
