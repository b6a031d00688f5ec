"""A control plane on PostgreSQL, in the process that operators run: killed, asked, misconfigured."""

from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner

from nixfleet_agent.network.http_transport import connected
from nixfleet_cli.main import main
from nixfleet_postgres.target import Target
from nixfleet_runtime.kernel.clock import SystemClock
from tests.control_plane.test_process import KEY, LAYOUT
from tests.control_plane.test_process_plugins import _dispatched
from tests.engines.releases import Publisher
from tests.support.control_plane_process import CONFIG, Premises
from tools.postgres.server import PASSWORD

pytestmark = pytest.mark.anyio

CLOCK = SystemClock()


@pytest.fixture
def premises(target: Target, tmp_path: Path) -> Premises:
    premises = Premises(tmp_path, Publisher())
    options = f'kind = "postgres"\ndsn_file = "{target.dsn_file}"\nschema = "{target.schema}"'
    premises.config.write_text(CONFIG.replace('path = "control-plane.db"', options))
    return premises


async def test_a_control_plane_on_postgresql_goes_on_after_it_was_killed(
    premises: Premises,
) -> None:
    """What it dispatched is there, and the commands read it while it runs; its password is not in its arguments."""
    premises.publish("r1", LAYOUT)
    with premises.running() as first:
        assert first.url, premises.said()
        async with connected(first.url, "web-01", KEY, CLOCK) as host:
            dispatch = await _dispatched(host)
        for what in ("cmdline", "environ"):
            assert PASSWORD not in await anyio.Path(f"/proc/{first.pid}/{what}").read_text()
        first.kill()
    with premises.running() as second:
        assert second.url, premises.said()
        async with connected(second.url, "web-01", KEY, CLOCK) as host:
            assert await _dispatched(host) == dispatch
        config = str(premises.config)
        for command in (
            ("status",),
            ("log", "show"),
            ("log", "verify"),
            ("log", "rebuild", "--check"),
        ):
            done = CliRunner().invoke(main, [*command, "--config", config])
            assert done.exit_code == 0, done.output
        assert second.stop() == 0
    assert PASSWORD not in premises.said()


async def test_a_control_plane_that_cannot_log_in_does_not_start(
    premises: Premises, target: Target
) -> None:
    """It names the file, and says what to do."""
    text = target.dsn_file.read_text()
    target.dsn_file.write_text(text.replace("horse", "hunter2"))
    with premises.running() as refused:
        assert refused.ended() != 0
    said = premises.said()
    assert "correct user and password" in said
    assert "hunter2" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "store.dsn_file: missing"),
        ('dsn_file = "gone"', "store.dsn_file"),
        ('dsn_file = "postgresql://a:b@c/d"', "store.dsn_file"),
        ('dsn_file = "open"', "store.dsn_file"),
        ('dsn_file = "text"', "store.dsn_file: has no connection URL"),
        ('dsn_file = "dsn"\nschema = "pg_x"', "store.schema: cannot be the name of a schema"),
        ('dsn_file = "dsn"\npassword = "hunter2"', "store.password"),
    ],
)
def test_a_configuration_with_a_fault_is_refused_before_anything_is_opened(
    premises: Premises, written: str, said: str
) -> None:
    """`nixfleet config check` names the option, and shows no secret."""
    (premises.directory / "open").write_text("postgresql://u:hunter2@h/d")
    (premises.directory / "open").chmod(0o644)
    (premises.directory / "text").touch(0o600)
    (premises.directory / "text").write_text("hunter2")
    options = f'kind = "postgres"\n{written}'
    premises.config.write_text(CONFIG.replace('path = "control-plane.db"', options))
    checked = CliRunner().invoke(main, ["config", "check", str(premises.config)])
    assert checked.exit_code != 0
    assert said in checked.output
    assert "hunter2" not in checked.output
