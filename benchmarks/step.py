"""step: one host's life of 28 facts through the reducer, on one core. Facts and events exist beforehand.

Beside it: the same source on attrs alone, and the nearest thing in four libraries. The peers keep the same
data (three probes, all times) on mutable objects, check the same rules of convergence and hand on the same effect per
fact; the objects are made beforehand. `eventsourcing` makes an event object of its own besides.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TypeVar

from attrs import evolve

from benchmarks.harness import Contender, Figure, Scale, Timed, race, ratio
from benchmarks.life import FACTS_PER_LIFE, POLICY, T0, life, pending
from benchmarks.peers import available_hosts
from nixfleet_proto import drafting
from nixfleet_state_machine import Event, Local, Remote
from nixfleet_state_machine.host import reducer

T = TypeVar("T")
AT_LEAST_PER_SECOND = 650_000
AT_LEAST_TIMES_ATTRS = 4.5


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the rates of ours and the peers, and the ratio to the build on attrs."""
    # Many short rounds: what else the machine does comes and goes by the second.
    scale = evolve(scale, rounds=3 * scale.rounds)
    lives = scale.pick(700, 300, 2)
    on_attrs = reducer_on_attrs()
    ours: dict[str, Contender] = {
        "Remote": _reducing(reducer, Remote, lives),
        "Local": _reducing(reducer, Local, lives),
        "the same on attrs": _reducing(on_attrs, Remote, max(1, lives // 4)),
    }
    peers = {name: _living(make_host, max(1, lives // 20)) for name, make_host in available_hosts()}
    rates = race(scale, {**ours, **peers})
    for name, rate in rates.items():
        is_ours = name in ("Remote", "Local")
        yield evolve(
            rate,
            workload="step",
            kind="ours" if is_ours else "peer",
            at_least=AT_LEAST_PER_SECOND if is_ours else None,
        )
    remote = evolve(rates["Remote"], workload="step")
    yield ratio(
        "Remote / the same on attrs",
        remote,
        rates["the same on attrs"],
        at_least=AT_LEAST_TIMES_ATTRS,
    )


def _reducing(module: ModuleType, side: Callable[..., Event], lives: int) -> Contender:
    def prepare() -> Timed:
        step, events, start = module.step, tuple(side(fact) for fact in life()), pending()

        def run() -> int:
            for _ in range(lives):
                record = start
                for event in events:
                    record, _effects = step(record, event, T0, POLICY)
            return lives * FACTS_PER_LIFE

        return run

    return prepare


def _living(make_host: Callable[[], Callable[[object], None]], lives: int) -> Contender:
    def prepare() -> Timed:
        facts, hosts = life(), [make_host() for _ in range(lives)]

        def run() -> int:
            for tell in hosts:
                for fact in facts:
                    tell(fact)
            return lives * FACTS_PER_LIFE

        return run

    return prepare


def reducer_on_attrs() -> ModuleType:
    """Return the reducer's own source, loaded a second time with constructors and `evolve` of attrs."""
    spec = importlib.util.find_spec(reducer.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    ours = drafting.maker, drafting.evolver
    drafting.maker, drafting.evolver = _maker, _evolver
    try:
        spec.loader.exec_module(module)
    finally:
        drafting.maker, drafting.evolver = ours
    return module


def _maker(cls: T) -> T:
    return cls


def _evolver(cls: type[T], *always: str) -> Callable[..., T]:
    # Two in both of the reducer's evolvers. No more is done here than `evolve` needs.
    first, second = always

    def evolved(
        record: T, one: object, two: object, changes: Mapping[str, object] | None = None
    ) -> T:
        return evolve(record, **{first: one, second: two}, **(changes or {}))  # type: ignore[misc]

    return evolved
