"""Whether a host's heartbeats contradict each other: then two machines have its key, or its journal was set back.

In memory: what was heard since the start. Facts that contradict the log are found elsewhere, by their digests and by
the host machine.

A rollout of which nothing is durable here is asked for from its first fact. A host that took its record over, and has
lost that fact as well, begins the rollout anew, so its number falls once, and no machine has its key besides it.
Source: docs/spec/runtimes.md, Two machines with one identity.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from attrs import evolve, frozen

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.transport import Heartbeat

LATE_MAX: Final = timedelta(seconds=120)
"""A heartbeat that comes later than this after another was made after it: a signature is good for 60 s, and the clock
that made it may be 60 s ahead."""
TURNS_MAX: Final = 3
"""How often the running closure may change without a new fact: every switch of an agent makes facts."""
_ROLLOUTS_KEPT_MAX: Final = 16


@frozen
class Reached:
    """The highest number that a host's journal was said to have, and since when.

    durable: how many facts were durable here, as of the heartbeat before: a late one may say what was true by then.
    """

    seq: int
    at: datetime
    durable: int = 0

    def is_begun_anew(self, taken: int) -> bool:
        """Return whether the first fact came after this was said. taken: how many facts are durable now."""
        return self.durable == 0 < taken


@frozen
class Heard:
    """What a host's heartbeats said.

    reached: of the rollouts in the latest one. most: the highest number of each of the latest rollouts ever.
    behind: the rollouts in which its journal lacked facts that are durable here: up to which, and since when.
    taken: the number of the last durable fact of each rollout at the latest one.
    turns: changes of the closure since a number was higher than any before, or a fact was taken.
    """

    closure: str
    reached: FrozenMap[str, Reached] = FrozenMap()
    most: FrozenMap[str, int] = FrozenMap()
    behind: FrozenMap[str, Reached] = FrozenMap()
    taken: FrozenMap[str, int] = FrozenMap()
    turns: int = 0


def heard_after(
    before: Heard | None, heartbeat: Heartbeat, taken: Mapping[str, int], now: datetime
) -> Heard:
    """Return what was heard after `heartbeat`, which contradicts nothing that was heard `before`.

    taken: the number of the host's last durable fact, by rollout.
    """
    known = Heard(heartbeat.current_closure) if before is None else before
    reached = {
        rollout_id: _reached(known, rollout_id, seq, taken.get(rollout_id, 0), now)
        for rollout_id, seq in heartbeat.last_seqs.items()
        if seq
    }
    behind = {
        rollout_id: _lacking(known.behind.get(rollout_id), seq, last, now)
        for rollout_id, last in taken.items()
        if 0 < (seq := heartbeat.last_seqs.get(rollout_id, 0)) < last
    }
    has_new = any(seq > known.most.get(id_, 0) for id_, seq in heartbeat.last_seqs.items())
    has_new |= any(seq > known.taken.get(id_, 0) for id_, seq in taken.items())
    most = {id_: max(seq, known.most.get(id_, 0)) for id_, seq in heartbeat.last_seqs.items()}
    earlier = [(id_, seq) for id_, seq in known.most.items() if id_ not in most]
    has_changed = heartbeat.current_closure != known.closure
    return evolve(
        known,
        closure=heartbeat.current_closure,
        reached=FrozenMap(reached),
        most=FrozenMap([*earlier[-_ROLLOUTS_KEPT_MAX:], *most.items()]),
        behind=FrozenMap(behind),
        taken=FrozenMap(taken),
        turns=0 if has_new else known.turns + has_changed,
    )


def contradiction(
    before: Heard | None, heartbeat: Heartbeat, taken: Mapping[str, int], now: datetime
) -> str | None:
    """Return how `heartbeat` contradicts what was heard `before`, or what was `taken`; `None` if it does not.

    A journal without any fact of a rollout is new, and contradicts nothing.
    """
    if before is None:
        return None
    for rollout_id, seq in heartbeat.last_seqs.items():
        known = before.reached.get(rollout_id)
        is_anew = known is not None and known.is_begun_anew(taken.get(rollout_id, 0))
        if known is not None and not is_anew and 0 < seq < known.seq and now - known.at > LATE_MAX:
            return f"its journal had {known.seq} facts of {rollout_id}, and has {seq}"
        durable = before.behind.get(rollout_id)
        if durable is not None and 0 < seq < durable.seq and now - durable.at > LATE_MAX:
            return (
                f"its journal has {seq} facts of {rollout_id}, of which {durable.seq} were accepted"
            )
    if heard_after(before, heartbeat, taken, now).turns >= TURNS_MAX:
        return (
            f"it runs {before.closure} and {heartbeat.current_closure} by turns, without new facts"
        )
    return None


def _lacking(known: Reached | None, seq: int, last: int, now: datetime) -> Reached:
    return known if known is not None and seq < known.seq else Reached(last, now)


def _reached(before: Heard, rollout_id: str, seq: int, taken: int, now: datetime) -> Reached:
    known = before.reached.get(rollout_id)
    if known is not None and seq <= known.seq and not known.is_begun_anew(taken):
        return known
    return Reached(seq, now, before.taken.get(rollout_id, 0))
