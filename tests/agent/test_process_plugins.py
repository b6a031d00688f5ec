"""An agent whose journal, transport and activator are plug-ins, in the process that operators run."""

import os
import re
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio
import pytest

from nixfleet_cli.demo.child import Child
from nixfleet_cli.demo.sides import Settings, agent_in
from tests.faults.site import Host, Site, make_site
from tests.faults.waiting import more_facts
from tests.faults.witness import Audit
from tests.support import socket_transport
from tests.support.installed import install

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "embedding.md").read_text()
SHOWN = dict(re.findall(r"```python\n# ([^\n]+)\.py\n(.*?)```", PAGE, re.DOTALL))
PARTS: Final = """
from contextlib import asynccontextmanager

from file_journal import FileJournal

from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_runtime.config.path_checks import file_to_write, link_to_replace, readable_directory

def blocking(section):
    path = section.path("path", file_to_write)

    @asynccontextmanager
    async def opened():
        yield FileJournal(path)
    return opened

def activator(section):
    store = section.path("store", readable_directory)
    profile = section.path("profile", link_to_replace)
    return lambda clock: DirectoryActivator(store, profile)

def raising(section):
    section.text("store"), section.text("profile")

    def made(clock):
        raise OSError("no orchestrator")
    return made

def dumb(section):
    return section.text("directory")

HOSTNAME = "web-01"
"""
BROKEN: Final = 'raise RuntimeError("no driver")\n'
POINTS: Final = {
    "nixfleet.journals": "file = journal_plugin:journal\nblocking = parts:blocking\nbroken = broken:journal",
    "nixfleet.transports": "sockets = socket_parts:transport\ndumb = parts:dumb",
    "nixfleet.activators": (
        "images = parts:activator\nraising = parts:raising\nconstant = parts:HOSTNAME"
    ),
}
HOSTNAME: Final = "web-01"


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with the parts, which processes find."""
    modules = {
        **{name: SHOWN[name] for name in ("file_journal", "journal_plugin")},
        "socket_parts": Path(socket_transport.__file__).read_text(),
        "parts": PARTS,
        "broken": BROKEN,
    }
    site = install(tmp_path / "site-packages", "parts", modules, POINTS)
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.fixture
def site(tmp_path: Path, plugged: None) -> Site:
    """A fleet of one host, which no probe looks at, and whose control plane also serves sockets."""
    directory = tmp_path / "site"
    directory.mkdir()
    site = make_site(directory, (HOSTNAME,), probed_port=9, soak_minutes=1)
    with (directory / "control-plane.toml").open("a") as config:
        config.write('transports.local.kind = "sockets"\n')
        config.write(f'transports.local.directory = "{directory}/sockets"\n')
        config.write(f'transports.local.hosts = ["{HOSTNAME}"]\n')
    (directory / "sockets").mkdir(mode=0o700)
    return site


def _agent(site: Site, **changed: str) -> Child:
    """The agent of the host, which names every part."""
    host: Host = site.hosts[0]
    settings: Settings = {
        "control_plane.kind": "sockets",
        "control_plane.directory": site.directory / "sockets",
        "trust.file": "../trust.json",
        "journal.kind": "file",
        "journal.path": "journal",
        "activator.kind": "images",
        "ticks.tick_seconds": 0.1,
        "ticks.heartbeat_seconds": 0.5,
        **changed,
    }
    return agent_in(host.directory, host.hostname, settings)


async def test_an_agent_runs_on_a_journal_a_transport_and_an_activator_that_are_plug_ins(
    site: Site,
) -> None:
    """It switches to a release, is killed, and goes on where its journal ends; no URL and no SQLite are involved."""
    await site.install("r0")
    agent = _agent(site)
    try:
        await site.control_plane.start_and_wait()
        await agent.start_and_wait()
        with closing(Audit(site)) as audit:
            rollout_id = site.publish("r1")
            await more_facts(audit, 2)
            await agent.kill()
            await agent.start_and_wait()
            await more_facts(audit, 1)
        assert await agent.stop() == 0, agent.log.read_text()
        assert await site.control_plane.stop() == 0
    finally:
        agent.make_sure_it_ended()
        site.leave_nothing_running()

    host = site.hosts[0]
    assert (host.directory / "profile" / "release").read_text() == "r1"
    log = agent.log.read_text()
    assert "reports to the transport 'sockets'" in log
    assert f"{rollout_id}: accepts the dispatch; runs" in log
    assert log.count(f"{rollout_id}: has switched to ") == 1
    assert not (host.directory / "journal").read_bytes().startswith(b"SQLite")
    assert str(rollout_id) in repr((host.directory / "journal").read_bytes())


@pytest.mark.parametrize(
    ("part", "kind", "said"),
    [
        (
            "journal",
            "none",
            "journal.kind: unknown value: expected one of sqlite, or an installed entry point",
        ),
        (
            "journal",
            "broken",
            "entry point 'broken' of nixfleet.journals in parts 1.0 cannot be used: expected "
            "broken:journal to be imported, found RuntimeError('no driver')",
        ),
        (
            "journal",
            "blocking",
            "entry point 'blocking' of nixfleet.journals in parts 1.0: expected every call of "
            "Journal, found FileJournal.load, which is not async",
        ),
        (
            "control_plane",
            "dumb",
            "entry point 'dumb' of nixfleet.transports in parts 1.0: expected the transport to be "
            "opened, found AttributeError",
        ),
        (
            "activator",
            "raising",
            "entry point 'raising' of nixfleet.activators in parts 1.0: expected the activator to "
            "be made, found OSError('no orchestrator')",
        ),
        (
            "activator",
            "constant",
            "entry point 'constant' of nixfleet.activators in parts 1.0 cannot be used: expected a "
            "function of one argument, the section of the configuration, found parts:HOSTNAME",
        ),
    ],
)
async def test_a_part_that_cannot_be_used_ends_the_agent_with_an_error_of_its_own(
    site: Site, part: str, kind: str, said: str
) -> None:
    """It is not there, it raises at its import or later, or it does not fit: by name, without a traceback."""
    await site.install("r0")
    _agent(site, **{f"{part}.kind": kind})
    config = site.hosts[0].directory / "agent.toml"
    command = [sys.executable, "-m", "nixfleet_cli", "agent", "run", "--config", str(config)]
    done = await anyio.run_process(command, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr
