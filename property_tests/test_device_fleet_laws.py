"""Laws of the example of a second domain, examples/device_fleet: its reducer, its restart, its edge."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from examples.device_fleet.buckets import Entry
from examples.device_fleet.edge import decode_device_info, decode_heartbeat, decode_state
from examples.device_fleet.engine import FleetEngine
from examples.device_fleet.log import FactLog
from examples.device_fleet.model import (
    Counters,
    Deployment,
    DeploymentDeclared,
    DeploymentName,
    DeploymentRemoved,
    DeviceId,
    DeviceRegistered,
    DeviceRemoved,
    Effect,
    Fact,
    Fleet,
    HeartbeatReceived,
    Labels,
    Pair,
    Phase,
    PublishDesiredState,
    ReportCounters,
    StateObserved,
    WithdrawDesiredState,
)
from examples.device_fleet.reducer import reconciled, step
from nixfleet import FrozenMap

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
DEVICES = [DeviceId(f"device-{number}") for number in range(3)]
SHARED_MEMORY = Path("/dev/shm")
NAMES = [DeploymentName("app"), DeploymentName("agent")]

devices = st.sampled_from(DEVICES)
names = st.sampled_from(NAMES)
pairs = st.builds(Pair, devices, names)
labels: st.SearchStrategy[Labels] = st.dictionaries(
    st.sampled_from(["site", "kind"]), st.sampled_from(["a", "b"])
).map(FrozenMap)
observations = st.builds(
    StateObserved, pairs, st.sampled_from(Phase), st.integers(0, 4), st.integers(1, 8), st.text()
)
deployment_facts = st.builds(
    DeploymentDeclared, names, st.sampled_from(["app:1", "app:2"]), labels
) | st.builds(DeploymentRemoved, names)
device_facts = (
    st.builds(DeviceRegistered, devices, labels)
    | st.builds(DeviceRemoved, devices)
    | observations
    | st.builds(
        HeartbeatReceived, devices, st.integers(0, 90).map(lambda s: START + timedelta(seconds=s))
    )
)
facts: st.SearchStrategy[Fact] = deployment_facts | device_facts
histories = st.lists(facts, max_size=30)


class World:
    """What devices can read and people can see: the effects so far, carried out."""

    def __init__(self) -> None:
        self.published: dict[Pair, tuple[str, int]] = {}
        self.reported: dict[DeploymentName, Counters] = {}

    def carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case PublishDesiredState(pair, deployment):
                    self.published[pair] = deployment.image, deployment.generation
                case WithdrawDesiredState(pair):
                    self.published.pop(pair)
                case ReportCounters(name, counters):
                    self.reported[name] = counters

    def require_is(self, fleet: Fleet) -> None:
        assert self.published == selected_in(fleet)
        shown = {name: self.reported.get(name) for name in fleet.deployments}
        assert shown == fleet.counters


def selected_in(fleet: Fleet) -> dict[Pair, tuple[str, int]]:
    """Return what each device is to run, by a walk over all of them."""
    return {
        Pair(device, name): (deployment.image, deployment.generation)
        for device, device_labels in fleet.devices.items()
        for name, deployment in fleet.deployments.items()
        if all(device_labels.get(key) == value for key, value in deployment.selector.items())
    }


def after(history: Sequence[Fact]) -> Fleet:
    fleet = Fleet()
    for fact in history:
        fleet, _ = step(fleet, fact)
    return fleet


@given(histories)
def test_what_is_published_is_what_the_selectors_say_after_every_fact(history: list[Fact]) -> None:
    """No device is told to run a deployment that does not select it, and each that is selected is told."""
    fleet, world = Fleet(), World()
    for fact in history:
        fleet, effects = step(fleet, fact)
        world.carry_out(effects)
        world.require_is(fleet)


@given(histories)
def test_the_counters_equal_a_walk_over_all_devices(history: list[Fact]) -> None:
    """What is counted fact by fact is what a count of everything finds."""
    fleet = after(history)
    for name in fleet.deployments:
        counts = Counter[str]()
        for pair, (_, generation) in selected_in(fleet).items():
            if pair.deployment == name:
                said = fleet.observed.get(pair)
                is_current = said is not None and said.generation == generation
                counts[said.phase if said is not None and is_current else "pending"] += 1
        assert fleet.counters[name] == Counters(**counts)
    assert fleet.counters.keys() == fleet.deployments.keys()


@given(histories)
def test_a_generation_is_given_once(history: list[Fact]) -> None:
    """What a device said of an earlier version can never be taken for what it says of a later one."""
    fleet, seen = Fleet(), dict[int, tuple[DeploymentName, Deployment]]()
    for fact in history:
        fleet, _ = step(fleet, fact)
        for name, deployment in fleet.deployments.items():
            assert seen.setdefault(deployment.generation, (name, deployment)) == (name, deployment)


@given(st.lists(observations, unique_by=lambda said: said.revision), st.data())
def test_an_old_observation_never_overwrites_a_newer_one(
    said: list[StateObserved], data: st.DataObject
) -> None:
    """In whatever order they come, the last of each key stays."""
    last = {each.pair: each for each in sorted(said, key=lambda each: each.revision)}
    assert after(data.draw(st.permutations(said))).observed == last


@given(histories)
def test_heartbeats_only_go_forward(history: list[Fact]) -> None:
    """A device is online until 60 seconds after its latest heartbeat, in whatever order they came."""
    fleet = after(history)
    for device in DEVICES:
        beats = [
            fact.at
            for fact in history
            if isinstance(fact, HeartbeatReceived) and fact.device == device
        ]
        assert fleet.heartbeats.get(device) == max(beats, default=None)
        for at in beats:
            assert fleet.is_online(device, max(beats) + timedelta(seconds=59.9)), at
            assert not fleet.is_online(device, max(beats) + timedelta(seconds=60)), at


@given(histories, facts)
def test_a_fact_that_is_told_again_changes_nothing(history: list[Fact], fact: Fact) -> None:
    """A watch that begins anew repeats what it said; the state is then the very same object."""
    once, _ = step(after(history), fact)
    twice, effects = step(once, fact)
    assert twice is once
    assert effects == ()


@given(st.lists(deployment_facts), st.lists(device_facts), st.data())
def test_the_order_between_people_and_devices_does_not_matter(
    people: list[Fact], devices: list[Fact], data: st.DataObject
) -> None:
    """The buckets are watched by tasks of their own: however these overtake each other, the fleet is the same."""
    mixed: list[Fact] = []
    left = [list(people), list(devices)]
    while any(left):
        mixed.append(data.draw(st.sampled_from([each for each in left if each])).pop(0))
    assert after(mixed) == after([*people, *devices])


@given(histories, st.sets(pairs))
def test_a_start_makes_up_for_every_effect_that_a_crash_lost(
    history: list[Fact], published: set[Pair]
) -> None:
    """Whatever is published when a process starts, it is what the fleet says once the start's effects are done."""
    fleet, world = after(history), World()
    world.published = dict.fromkeys(published, ("of an earlier process", 0))
    world.carry_out(reconciled(fleet, published))
    world.require_is(fleet)


@given(st.lists(st.tuples(facts, st.booleans()), max_size=15))
def test_a_restart_is_a_replay_of_the_durable_facts(inputs: list[tuple[Fact, bool]]) -> None:
    """Writes that fail leave no trace, and a new process has what the old one had, except heartbeats."""
    engine = FleetEngine()

    async def live(log: FactLog) -> None:
        for fact, is_written in inputs:
            before = engine.fleet
            commit = engine.handle(fact, START)
            if is_written:
                await log.append(commit.writes)
                engine.settle()
            else:
                engine.roll_back()
                assert engine.fleet is before

    # In memory where there is such a directory: that a disk keeps what it was given is not the law here.
    with TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as directory:
        log = FactLog(Path(directory) / "facts")
        anyio.run(live, log)
        log.close()
        reopened = FactLog(Path(directory) / "facts")
        restarted = FleetEngine(reopened.load())
        reopened.close()
    assert restarted.fleet == evolve(engine.fleet, heartbeats=FrozenMap())


ascii_keys = st.text("ab-.0Aé_", max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3)
    ),
    max_leaves=5,
)
hostile_objects = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(Phase) | json_values,
        "generation": st.integers() | json_values,
        "error": st.text() | json_values,
        "labels": st.dictionaries(st.text(), st.text()) | json_values,
    },
)
hostile_values = (
    st.none()
    | st.binary(max_size=100)
    | hostile_objects.map(lambda value: json.dumps(value).encode())
    | st.integers(1, 3000).map(lambda depth: b"[" * depth)
)
hostile_entries = st.builds(
    Entry,
    st.sampled_from(["device-1", "state.device-1.app", "state.device-1.", "a.b.c"]) | ascii_keys,
    hostile_values,
    st.integers(1),
    st.just(START),
)


@given(hostile_entries)
def test_an_entry_of_a_stranger_is_a_fact_or_refused(entry: Entry) -> None:
    """Whatever bytes a device writes, the edge returns resolved types or the two errors that its shell skips."""
    for decode in (decode_device_info, decode_state, decode_heartbeat):
        try:
            fact = decode(entry)
        except (ValueError, RecursionError):
            continue
        step(after([DeploymentDeclared(NAMES[0], "app:1", FrozenMap())]), fact)
        if isinstance(fact, StateObserved):
            assert entry.key == f"state.{fact.pair.device}.{fact.pair.deployment}"
            assert isinstance(fact.phase, Phase)
            assert isinstance(fact.generation, int)
            assert len(fact.error) <= 1024
