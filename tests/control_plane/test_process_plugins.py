"""A control plane whose store and transport are plug-ins, in the process that operators run."""

import json
import os
import re
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner

from nixfleet_agent.network.http_transport import HttpTransport, connected
from nixfleet_cli.main import main
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.transport import EventsOutcome, TransportFailed
from tests.control_plane.test_process import KEY, LAYOUT
from tests.engines.releases import Publisher
from tests.support.control_plane_process import CONFIG, Premises
from tests.support.installed import install, use

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "embedding.md").read_text()
SHOWN = dict(re.findall(r"```python\n# ([^\n]+)\.py\n(.*?)```", PAGE, re.DOTALL))
WITHIN_SECONDS = 30
CLOCK = SystemClock()
BEACON = """
from contextlib import asynccontextmanager
from pathlib import Path

class Beacon:
    def __init__(self, path):
        self.path = path

    @asynccontextmanager
    async def serve(self, service):
        self.path.write_text(f"{service.waiting_polls} polls wait")
        yield
        self.path.write_text("closed")

def beacon(section):
    return Beacon(Path(section.text("path")))
"""


LIARS = """
from contextlib import asynccontextmanager

from file_plugin import store

def lying(section, load):
    opener = store(section)

    @asynccontextmanager
    async def opened():
        async with opener() as made:
            made.store.load = load
            yield made
    return opened

async def nothing():
    return None

async def fails():
    raise RuntimeError("boom\\x1b[2J")

def returns_nothing(section):
    return lying(section, nothing)

def raises(section):
    return lying(section, fails)
"""


@pytest.fixture
def premises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Premises:
    modules = {name: SHOWN[name] for name in ("file_store", "file_plugin")}
    modules |= {"beacon": BEACON, "liars": LIARS}
    points = {
        "nixfleet.stores": (
            "file = file_plugin:store\nraises = liars:raises\nnothing = liars:returns_nothing"
        ),
        "nixfleet.transports": "beacon = beacon:beacon",
    }
    site = install(tmp_path / "site", "plugged", modules, points)
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    premises = Premises(tmp_path, Publisher())
    config = CONFIG.replace('path = "control-plane.db"', 'kind = "file"\npath = "log"')
    beacon = f'[transports.light]\nkind = "beacon"\npath = "{tmp_path}/light"\n'
    premises.config.write_text(config + beacon)
    return premises


async def _dispatched(host: HttpTransport) -> Dispatch:
    with anyio.fail_after(WITHIN_SECONDS):
        while True:
            # Until the second of the start is over, what was signed is refused.
            with suppress(TransportFailed):
                dispatch = await host.next_dispatch(1)
                if dispatch is not None:
                    return dispatch
            await anyio.sleep(0.05)


async def _answered(host: HttpTransport, sent: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
    with anyio.fail_after(WITHIN_SECONDS):
        while True:
            with suppress(TransportFailed):
                return await host.post_events(sent)
            await anyio.sleep(0.05)


async def test_a_control_plane_runs_on_a_store_and_a_transport_that_are_plug_ins(
    premises: Premises,
) -> None:
    """What it acknowledged before a SIGKILL is there after it, and it stops in order."""
    premises.publish("r1", LAYOUT)
    with premises.running() as first:
        assert first.url, premises.said()
        assert (premises.directory / "light").read_text() == "0 polls wait"
        async with connected(first.url, "web-01", KEY, CLOCK) as host:
            dispatch = await _dispatched(host)
            fact = DispatchAck("before", CLOCK.now(), seq=1)
            sent = (AgentEventEnvelope("web-01", dispatch.rollout_id, fact),)
            assert await host.post_events(sent) == EventsOutcome(1)
        first.kill()

    with premises.running() as second:
        assert second.url, premises.said()
        async with connected(second.url, "web-01", KEY, CLOCK) as host:
            assert await _answered(host, sent) == EventsOutcome(1)
            assert await host.next_dispatch(0) is None
        assert second.stop() == 0
    assert (premises.directory / "light").read_text() == "closed"
    assert not premises.database.exists()


async def test_the_commands_read_a_store_that_is_a_plug_in_while_its_control_plane_runs(
    premises: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by the configuration alone, without a connection to the control plane."""
    use(monkeypatch, premises.directory / "site")
    premises.publish("r1", LAYOUT)
    with premises.running() as living:
        assert living.url, premises.said()
        async with connected(living.url, "web-01", KEY, CLOCK) as host:
            rollout_id = (await _dispatched(host)).rollout_id
            status = json.loads(_done(premises, "status", "--json"))
            shown = _done(premises, "log", "show")
            verified = _done(premises, "log", "verify")
            rebuilt = _done(premises, "log", "rebuild", "--check")
        assert living.stop() == 0

    assert [each["rolloutId"] for each in status["rollouts"]] == [rollout_id]
    assert "dispatches web-01: r1-web-01" in shown
    assert verified.startswith("every row can be read and replayed: ")
    assert rebuilt.startswith("the stored views equal those rebuilt from ")


def _done(premises: Premises, *arguments: str) -> str:
    done = CliRunner().invoke(main, [*arguments, "--config", str(premises.config)])
    assert done.exit_code == 0, done.output
    return done.stdout


async def test_a_plug_in_that_cannot_be_used_ends_the_start_in_one_line(premises: Premises) -> None:
    """With the entry point and its distribution."""
    premises.config.write_text(premises.config.read_text().replace('"file"', '"beacon"'))
    with premises.running() as living:
        assert living.ended() == 2
    assert (
        "store.kind: unknown value: expected one of sqlite, or an installed entry point"
        " (file, nothing, postgres, raises)" in premises.said()
    )


@pytest.mark.parametrize("kind", ["raises", "nothing"])
async def test_a_store_that_cannot_be_loaded_ends_the_start_in_one_line(
    kind: str, premises: Premises
) -> None:
    """By its name, and with what it raised, escaped."""
    premises.config.write_text(premises.config.read_text().replace('"file"', f'"{kind}"'))
    with premises.running() as living:
        assert living.ended() == 2

    (line,) = [line for line in premises.said().splitlines() if not line.startswith("{")]
    named = f"entry point '{kind}' of nixfleet.stores in plugged"
    assert line.startswith(f"Error: the store: {named}")
    assert ": expected what it has to be loaded, found " in line
    assert line.isprintable()
