"""Two shards with an edge between them: `db` in the shard `data`, and `web` in `main`, which waits for it.

The engines and stores are the real ones. What `data` says is read, kept back and delivered by a test, in any order.
"""

from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import replay
from nixfleet_control_plane.engine.shard_words import word_on
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.proofs import row_hashes
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.inputs import (
    Done,
    ManifestsOutcome,
    ManifestsUpdated,
    SeeChannel,
)
from nixfleet_control_plane.messages.log_entry import (
    FIRST_PREV_HASH,
    ArtefactTaken,
    Followed,
    LogRow,
    Planned,
)
from nixfleet_proto.codec import decode_manifest
from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    RolloutPolicy,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, RolloutManifest
from nixfleet_state_machine.planner.action import QueueDispatch
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap, ShardPlace
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START, Publisher
from tests.engines.scripted_host import ScriptedHost

DB, WEB = "db", "web"
HOSTS = {DB: ("db-1",), WEB: ("web-1", "web-2")}
SHARDS = ShardMap.of({"data": (DB,)})
DATA = ShardPlace(SHARDS, "data")
MAIN_PLACE = ShardPlace(SHARDS, MAIN)


def fleet_of(
    ref: str, budgets: tuple[DisruptionBudget, ...] = (), edge: bool = True
) -> FleetResolved:
    """Return a fleet of both channels, in which every host gets its closure of `ref`."""
    return FleetResolved(
        hosts=FrozenMap(
            {
                host: FleetHost(channel, closure_hash=f"{ref}-{host}")
                for channel, hosts in HOSTS.items()
                for host in hosts
            }
        ),
        channels=FrozenMap({channel: FleetChannel("at-once") for channel in HOSTS}),
        rollout_policies=FrozenMap({"at-once": RolloutPolicy()}),
        waves=FrozenMap(),
        meta=Meta(START, ci_commit=ref),
        channel_edges=(Edge(DB, WEB),) if edge else (),
        disruption_budgets=budgets,
    )


def release_of(
    ci: Publisher,
    ref: str,
    budgets: tuple[DisruptionBudget, ...] = (),
    channels: tuple[str, ...] = (DB, WEB),
) -> ManifestsUpdated:
    """Return a release of these channels."""
    fleet = ci.fleet(fleet_of(ref, budgets), START)
    return ManifestsUpdated(
        fleet,
        tuple(
            ci.manifest(
                RolloutManifest(
                    channel=channel,
                    channel_ref=ref,
                    display_name=f"{channel}@{ref}",
                    fleet_resolved_hash=fleet.artefact_hash,
                    host_set=tuple(
                        HostAssignment(host, f"{ref}-{host}") for host in HOSTS[channel]
                    ),
                    meta=Meta(START),
                ),
                START,
            )
            for channel in channels
        ),
    )


@frozen
class Untrue:
    """A dispatch of the follower that nothing in the other log allows. why: in words."""

    seq: int
    why: str


class TwoShards:
    """Both shards, and what `data` has said so far, in the order in which it was read."""

    def __init__(self, directory: Path) -> None:
        self.ci = Publisher()
        for name in ("data", "main"):
            (directory / name).mkdir()
        self.data = ScriptedControlPlane(directory / "data", ci=self.ci, place=DATA)
        self.main = ScriptedControlPlane(directory / "main", ci=self.ci, place=MAIN_PLACE)
        self.words: list[ChannelSeen] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with closing(self.data), closing(self.main):
            pass

    def offer(self, release: ManifestsUpdated) -> tuple[ManifestsOutcome, ManifestsOutcome]:
        """Publish a release to both; return what `data` and `main` made of it."""
        return self.data.offer(release), self.main.offer(release)

    def read(self) -> ChannelSeen:
        """Read what `data` says of `db` now."""
        rows = self.data.rows()
        head = row_hashes(rows)[-1] if rows else FIRST_PREV_HASH
        word = word_on(self.data.state, DB, AsOf("data", self.data.state.head_seq, head.hex()))
        self.words.append(word)
        return word

    def tell(self, word: ChannelSeen) -> None:
        """Deliver what was read to `main`."""
        self.main.ask_for(Done, SeeChannel(word))

    def follow(self) -> None:
        """Read, and deliver at once."""
        self.tell(self.read())

    def converge(self, shard: ScriptedControlPlane, rollout_id: RolloutId) -> None:
        """Let every host of a rollout that has a dispatch come to Converged."""
        for hostname, of in shard.queued():
            if of == rollout_id:
                ScriptedHost(shard, rollout_id, hostname).finish()

    def seen(self) -> list[ChannelSeen]:
        """Return what `main` took, in order."""
        taken = (each.seen for each in self.main.logged(Followed))
        return [each for each in taken if isinstance(each, ChannelSeen)]

    def untrue(self) -> list[Untrue]:
        """Return what is wrong with the log of `main`, judged by both logs alone.

        Each word that it took must be what the log of `data` says up to the row that is named, with that row's hash;
        words are taken in order; and a host is dispatched only after a word that the other channel is done, of the
        very release that the host's own manifest is anchored in.
        """
        rows, problems = self.data.rows(), list[Untrue]()
        hashes, word, release = row_hashes(rows), None, dict[str, str]()
        for logged in self.main.log():
            entry = logged.entry
            if isinstance(entry, Followed) and isinstance(entry.seen, ChannelSeen):
                if word is not None and entry.seen.as_of.seq <= word.as_of.seq:
                    problems.append(Untrue(logged.seq, "a word that is older than the one before"))
                word = entry.seen
                said = word.as_of
                if said.seq > len(rows) or (said.seq and hashes[said.seq - 1].hex() != said.hash):
                    problems.append(Untrue(logged.seq, "no such row"))
                elif _said_by(rows[: said.seq]) != (
                    word.offered_rollout_id,
                    word.release,
                    word.done,
                ):
                    problems.append(Untrue(logged.seq, "the other log says something else"))
            elif isinstance(entry, ArtefactTaken) and entry.rollout_id is not None:
                manifest = decode_manifest(entry.body.encode())
                release[entry.rollout_id] = manifest.fleet_resolved_hash
            elif isinstance(entry, Planned) and isinstance(entry.action, QueueDispatch):
                of = release[entry.action.rollout_id]
                if word is None or not word.done or word.release != of:
                    problems.append(Untrue(logged.seq, f"dispatched too early: {word}"))
        return problems


def _said_by(rows: tuple[LogRow, ...]) -> tuple[RolloutId | None, str | None, bool]:
    """Return what these rows, replayed, say of `db`: by the records alone, and not by `word_on`."""
    state = State()
    for row in rows:
        replay(state, CommitBuilder(), entry_of(row))
    offered = state.view.offers.get(DB)
    if offered is None:
        return None, None, False
    record = state.view.rollouts.get(offered.rollout_id)
    is_done = record is not None and record.state in (
        RolloutState.TERMINAL,
        RolloutState.SUPERSEDED,
    )
    return (
        offered.rollout_id,
        state.manifests[offered.rollout_id].manifest.fleet_resolved_hash,
        is_done,
    )
