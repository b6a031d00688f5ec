"""An agent's journal, transport and activator as plug-ins: found, opened, and checked against their Protocols."""

from pathlib import Path

import pytest

from nixfleet_agent.config import read_agent_config
from nixfleet_agent.config_plugins import PluggedActivator, PluggedJournal, PluggedTransport
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.config.options import load_content
from nixfleet_runtime.config.plugins import PluginFailed, PluginUnfit
from nixfleet_runtime.kernel.clock import SystemClock
from tests.support.installed import install, use

pytestmark = pytest.mark.anyio

MODULE = """
from contextlib import asynccontextmanager
from pathlib import Path

from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_control_plane.in_process import InProcessTransport

def journal(section):
    path = Path(section.text("file"))

    @asynccontextmanager
    async def opened():
        journal = ThreadedJournal(SqliteJournal(path))
        yield journal
        await journal.close()
    return opened

def blocking(section):
    path = Path(section.text("file"))

    @asynccontextmanager
    async def opened():
        yield SqliteJournal(path)
    return opened

class Client:
    @asynccontextmanager
    async def connect(self, hostname, key, clock):
        yield InProcessTransport(None, hostname)

class Broken:
    @asynccontextmanager
    async def connect(self, hostname, key, clock):
        raise OSError("no broker")
        yield

def transport(section):
    return Broken() if section.flag("broken") else Client()

def activator(section):
    store = Path(section.text("images"))
    return lambda clock: DirectoryActivator(store, store / "profile")

def nothing(section):
    return lambda clock: object()
"""
POINTS = {
    "nixfleet.journals": "file = parts:journal\nblocking = parts:blocking",
    "nixfleet.transports": "broker = parts:transport",
    "nixfleet.activators": "images = parts:activator\nnothing = parts:nothing",
}
KEY, CLOCK = SigningKey.generate(), SystemClock()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what a configuration names, and the distribution that has the parts."""
    use(monkeypatch, install(tmp_path / "site", "parts", {"parts": MODULE}, POINTS))
    (tmp_path / "trust.json").write_text("{}")
    return tmp_path


def _parts(
    directory: Path, journal: str = "file", activator: str = "images", *, broken: bool = False
) -> tuple[PluggedJournal, PluggedTransport, PluggedActivator]:
    content: dict[str, object] = {
        "hostname": "web-01",
        "control_plane": {"kind": "broker", "broken": broken},
        "trust": {"file": str(directory / "trust.json")},
        "identity": {"key_file": str(directory / "host.key")},
        "journal": {"kind": journal, "file": str(directory / "journal.db")},
        "manifests": {"cache_directory": str(directory)},
        "activator": {"kind": activator, "images": str(directory)},
    }
    if activator == "nothing":
        content["activator"] = {"kind": "nothing"}
    config = load_content(directory / "agent.toml", content, {}, read_agent_config).config
    assert isinstance(config.journal, PluggedJournal)
    assert isinstance(config.control_plane, PluggedTransport)
    assert isinstance(config.activator, PluggedActivator)
    return config.journal, config.control_plane, config.activator


async def test_parts_that_fit_are_opened_and_closed(directory: Path) -> None:
    """Each is what the agent uses in place of its own."""
    journal, transport, activator = _parts(directory)

    async with journal.opened() as opened, transport.connected("web-01", KEY, CLOCK) as connected:
        assert await opened.unsent(10) == ()
        assert callable(connected.heartbeat)
    assert activator.made(CLOCK).switch_method == "directory"
    assert transport.where == "the transport 'broker'"


async def test_a_journal_whose_calls_block_does_not_fit(directory: Path) -> None:
    """It says which call, and that it is not async."""
    journal, _, _ = _parts(directory, journal="blocking")
    with pytest.raises(
        PluginUnfit, match=r"expected every call of Journal, found SqliteJournal\.load, which"
    ):
        async with journal.opened():
            pass


async def test_an_activator_that_lacks_its_calls_does_not_fit(directory: Path) -> None:
    """Before anything runs."""
    _, _, activator = _parts(directory, activator="nothing")
    with pytest.raises(
        PluginUnfit, match="expected every call of Activator, found object without answered"
    ):
        activator.made(CLOCK)


async def test_a_transport_that_cannot_be_opened_is_named(directory: Path) -> None:
    """With what it raised."""
    _, transport, _ = _parts(directory, broken=True)
    with pytest.raises(PluginFailed, match=r"'broker' .* in parts 1\.0: .*OSError\('no broker'\)"):
        async with transport.connected("web-01", KEY, CLOCK):
            pass


async def test_what_the_agent_raises_is_no_failure_of_its_parts(directory: Path) -> None:
    """An error of the body comes out as it is."""
    journal, _, _ = _parts(directory)
    with pytest.raises(RuntimeError, match="of the agent"):
        async with journal.opened():
            raise RuntimeError("of the agent")
