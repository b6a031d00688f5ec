"""Parts that a configuration names: each way in which a plug-in cannot be used is an error of its own."""

from pathlib import Path

import pytest

from nixfleet_agent.config import read_agent_config
from nixfleet_control_plane.config_store import StoreConfig, read_store
from nixfleet_control_plane.config_transports import read_transports
from nixfleet_control_plane.judges.judge import Judge
from nixfleet_runtime.config.options import ConfigError, Section, load_content
from nixfleet_runtime.config.plugins import (
    STORES,
    Plugin,
    PluginAmbiguous,
    PluginFailed,
    PluginMissing,
    PluginUnfit,
    calls_of,
    find_plugin,
)
from tests.support.installed import install, use

MODULE = """
from contextlib import asynccontextmanager
from nixfleet_control_plane.store.opened_store import OpenedStore

number = 7

def takes_none():
    pass

def reads_badly(section):
    raise RuntimeError("no such driver")

class Nothing:
    pass

class Blocking:
    def load(self): ...
    def commit(self, writes): ...
    def close(self): ...

def opener_of(store):
    def make(section):
        @asynccontextmanager
        async def opened():
            yield store
        return opened
    return make

nothing = opener_of(Nothing())
incomplete = opener_of(OpenedStore(Nothing(), Nothing()))
blocking = opener_of(OpenedStore(Blocking(), Nothing()))

def fails(section):
    @asynccontextmanager
    async def opened():
        raise OSError("connection refused")
        yield
    return opened

def judge(section):
    return Nothing()
"""
POINTS = """
number = trouble:number
takes-none = trouble:takes_none
reads-badly = trouble:reads_badly
nothing = trouble:nothing
incomplete = trouble:incomplete
blocking = trouble:blocking
fails = trouble:fails
not-there = trouble:not_there
no-module = no_such_module:store
"""


@pytest.fixture(autouse=True)
def trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution full of entry points of which none can be used."""
    points = {
        STORES: POINTS,
        "nixfleet.judges": "mute = trouble:judge",
        "nixfleet.transports": "mute = trouble:judge",
        "nixfleet.activators": "broken = trouble:reads_badly",
        "nixfleet.journals": "broken = trouble:reads_badly",
    }
    use(monkeypatch, install(tmp_path / "site", "trouble", {"trouble": MODULE}, points))


def _store(name: str) -> StoreConfig:
    content = {"store": {"kind": name}}
    read = load_content(
        Path("config.toml"), content, {}, lambda root: read_store(root.section("store"))
    )
    return read.config


def _problem(name: str) -> str:
    with pytest.raises(ConfigError) as raised:
        _store(name)
    (problem,) = raised.value.problems
    return str(problem)


def test_a_plug_in_that_is_not_installed_is_refused_with_those_that_are() -> None:
    """The message lists the parts of nixfleet and of installed packages."""
    problem = _problem("nats")

    assert problem.startswith("store.kind: unknown value: expected one of sqlite, or an installed ")
    assert "(blocking, fails, incomplete, " in problem
    assert problem.endswith('found "nats"')


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no-module", "expected no_such_module:store to be imported, found ModuleNotFoundError("),
        ("not-there", "expected trouble:not_there to be imported, found AttributeError("),
        ("number", "found trouble:number, which is a int"),
        ("takes-none", "found trouble:takes_none: too many positional arguments"),
        ("reads-badly", "expected its options to be read, found RuntimeError('no such driver')"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_a_problem_of_the_configuration(
    name: str, expected: str
) -> None:
    """With the entry point, its distribution, what was expected and what was found."""
    problem = _problem(name)

    assert f"entry point '{name}' of nixfleet.stores in trouble 1.0 cannot be used" in problem
    assert expected in problem


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (
            "fails",
            PluginFailed,
            "expected the store to be opened, found OSError('connection refused')",
        ),
        ("nothing", PluginUnfit, "expected an OpenedStore, found a Nothing"),
        (
            "incomplete",
            PluginUnfit,
            "expected every call of Store, found Nothing without close, commit, load",
        ),
        (
            "blocking",
            PluginUnfit,
            "expected every call of Store, found Blocking.load, which is not async",
        ),
    ],
)
async def test_a_store_that_cannot_be_opened_or_does_not_fit_is_named(
    name: str, kind: type[Exception], expected: str
) -> None:
    """Before anything is started."""
    with pytest.raises(kind) as raised:
        async with _store(name).opened():
            pass

    assert (
        str(raised.value) == f"entry point {name!r} of nixfleet.stores in trouble 1.0: {expected}"
    )


def test_a_part_of_nixfleet_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package that says it has `sqlite` is not asked."""
    points = {STORES: "sqlite = trouble:reads_badly"}
    use(monkeypatch, install(tmp_path / "other", "impostor", {}, points))

    plugin, _ = find_plugin(STORES, "sqlite", {"sqlite": lambda section: section})

    assert plugin == Plugin(STORES, "sqlite")


def test_a_name_that_two_distributions_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one is meant cannot be told."""
    points = {STORES: "fails = trouble:nothing"}
    use(monkeypatch, install(tmp_path / "other", "twin", {}, points))
    with pytest.raises(PluginAmbiguous, match=r"in trouble 1\.0, twin 1\.0: expected one dist"):
        find_plugin(STORES, "fails", {})


def test_the_error_of_a_missing_plug_in_has_its_facts() -> None:
    """For whoever handles it."""
    with pytest.raises(PluginMissing) as raised:
        find_plugin("nixfleet.nothing", "it", {})

    error = raised.value
    assert (error.group, error.name, error.distribution) == ("nixfleet.nothing", "it", "")
    assert error.expected == "an installed entry point (none is)"


def test_a_judge_without_its_call_is_a_problem(tmp_path: Path) -> None:
    """The configuration is refused, not the first question."""
    del tmp_path
    from nixfleet_control_plane.config_judges import read_judges

    with pytest.raises(
        ConfigError, match="expected every call of Judge, found Nothing without ask"
    ):
        load_content(Path("c.toml"), {"judges": {"errors": {"kind": "mute"}}}, {}, read_judges)


def test_a_transport_without_its_call_is_a_problem() -> None:
    """The configuration is refused."""
    content = {"transports": {"queue": {"kind": "mute"}}}
    with pytest.raises(
        ConfigError, match="expected every call of TransportServer, found Nothing without serve"
    ):
        load_content(Path("c.toml"), content, {}, read_transports)


@pytest.mark.parametrize("section", ["activator", "journal"])
def test_a_part_of_an_agent_that_cannot_be_loaded_is_a_problem(section: str) -> None:
    """As of the control plane."""

    def read(root: Section) -> object:
        return read_agent_config(root)

    with pytest.raises(ConfigError) as raised:
        load_content(Path("c.toml"), {section: {"kind": "broken"}}, {}, read)

    problems = [str(it) for it in raised.value.problems if it.path == f"{section}.kind"]
    assert len(problems) == 1
    assert f"of nixfleet.{section}s in trouble 1.0 cannot be used" in problems[0]


def test_the_calls_of_a_protocol_are_those_that_it_defines() -> None:
    """And not what every Protocol has."""
    assert calls_of(Judge) == ("ask",)
