"""`nixfleet operator … --preview` and `operator forecast`: what would happen, asked of a control plane that listens."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest
from attrs import frozen
from click.testing import CliRunner, Result

from nixfleet_cli.main import main
from nixfleet_control_plane.forecaster import ForecastProcess, forecast_command
from nixfleet_control_plane.messages.log_entry import Commanded
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release.publish.save import save_release
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.previews import PREVIEW
from nixfleet_runtime.releases.directory import Release
from tests.engines.releases import Layout
from tests.support.served_control_plane import CLOCK, OPERATOR_KEY, READER_KEY, Site, site_with

pytestmark = pytest.mark.anyio
WHY = ("--reason", "maintenance")


@frozen
class Console:
    """An operator's machine, and a site that computes forecasts."""

    directory: Path
    site: Site

    async def run(self, *arguments: str, name: str = "alice") -> Result:
        """Return what `nixfleet operator` did with these arguments."""
        key = OPERATOR_KEY if name == "alice" else READER_KEY
        key_file = self.directory / f"{name}.key"
        if not key_file.exists():
            key.save(key_file)
        who = ["--url", self.site.url, "--key", str(key_file), "--name", name]
        whole = ["operator", *arguments, *who]
        return await anyio.to_thread.run_sync(
            partial(CliRunner().invoke, main, whole, catch_exceptions=False)
        )

    def is_untouched(self) -> bool:
        """Whether no command is in the log."""
        connection = open_for_reading(self.site.database)
        try:
            return not any(isinstance(it.entry, Commanded) for it in log_entries(connection))
        finally:
            connection.close()


@pytest.fixture
def anyio_backend() -> str:
    """The control plane runs on it, and its process is asked there."""
    return "asyncio"


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    """A release of which the second wave is to be approved by alice; web-01 is dispatched."""
    database = tmp_path / "control-plane.sqlite"
    approved = WaveGuards(approvals=Approvals(1, ("alice",)))
    async with (
        ForecastProcess(forecast_command(database), lambda: 0, CLOCK.now) as forecaster,
        site_with(tmp_path, forecaster=forecaster) as site,
    ):
        await site.publish(layout=Layout(guards=(WaveGuards(), approved)))
        yield Console(tmp_path, site)


async def test_a_preview_says_what_a_command_would_do_and_carries_nothing_out(
    console: Console,
) -> None:
    """Who may only read may ask."""
    paused = await console.run("pause", "stable", *WHY, "--preview", name="bob")

    assert paused.exit_code == 0, paused.output
    assert "1 dispatch is taken back, of hosts that have not begun" in paused.output
    assert console.is_untouched()


async def test_a_preview_of_a_refusal_says_why(console: Console) -> None:
    """It is an answer, not a failure."""
    cleared = await console.run("clear", "stable@r1", *WHY, "--preview", "--json")

    assert cleared.exit_code == 0, cleared.output
    preview = PREVIEW.decode(cleared.output.encode())
    assert preview.refused is not None
    assert "Reverted or Failed" in preview.refused


async def test_a_statement_is_previewed_before_it_is_signed(console: Console) -> None:
    """The wave before is not done, so the approval lets no host begin yet."""
    approved = await console.run("approve", "stable@r1", *WHY, "--preview", "--json")
    denied = await console.run("deny", "stable@r1", *WHY, "--preview")

    preview = PREVIEW.decode(approved.output.encode())
    assert (preview.refused, preview.begin, preview.begin_in_all) == (None, 0, 2)
    assert "Failed" in denied.output
    assert console.is_untouched()


async def test_an_order_is_previewed_before_it_is_signed(console: Console) -> None:
    """What it allows, to which host and until when; one that no host would obey says why."""
    override = ("override", "stable@r1", "web-01", "--expires-minutes", "30", *WHY, "--preview")
    shown = await console.run(*override, name="bob")
    as_json = await console.run(*override, "--json")
    recalled = await console.run("recall", "stable@r1", *WHY, "--preview")

    assert shown.exit_code == 0, shown.output
    assert "web-01: no lock holds it now" in shown.output
    order = PREVIEW.decode(as_json.output.encode()).order
    assert order is not None
    assert (order.count, order.may_move, [it.hostname for it in order.hosts]) == (1, 0, ["web-01"])
    assert recalled.exit_code == 0
    assert 'it is refused: the policy signed for stable@r1 says recall = "never"' in recalled.output
    assert console.is_untouched()


async def test_a_forecast_is_shown_as_the_control_plane_computes_it(console: Console) -> None:
    """Of a fleet of which nothing is known yet."""
    shown = await console.run("forecast", "--rollout", "stable@r1")
    as_json = await console.run("forecast", "--json", name="bob")

    assert "when it ends is not known" in shown.output
    assert [it["rolloutId"] for it in json.loads(as_json.output)["rollouts"]] == ["stable@r1"]


async def test_a_release_is_planned_against_the_fleet_of_a_control_plane(console: Console) -> None:
    """By who may only read; with what it may cost, and nothing is put in force."""
    made, known = (_saved(console, ref) for ref in ("r2", "r1"))

    shown = await console.run("plan", str(made), name="bob")
    as_json = await console.run("plan", str(made), "--json")
    refused = await console.run("plan", str(known))

    assert shown.exit_code == 0, shown.output
    assert "stable@r2: at worst " in shown.output
    value = json.loads(as_json.output)
    assert value["blastRadius"]["stable@r2"]["hosts"] == 3
    assert [it["rolloutId"] for it in value["rollouts"]] == ["stable@r2"]
    assert refused.exit_code == 1
    assert "found stable@r1, which the log has: give it another ref" in refused.output
    assert console.is_untouched()


@pytest.mark.parametrize(
    ("path", "body", "status", "found"),
    [
        ("/v1/rollouts/stable@r1/pause", {}, 422, "reason"),
        ("/v1/rollouts/nonsense/pause", {"reason": "why"}, 404, "rollout"),
        ("/v1/rollouts/nonsense/approvals", {"wave": 1, "decision": "approve"}, 404, "rollout"),
        ("/v1/rollouts/stable@r1/approvals", {"wave": "1", "decision": "approve"}, 422, "wave"),
        ("/v1/rollouts/stable@r1/warrants", {}, 422, "rule"),
        ("/v1/rollouts/stable@r1/warrants", {"rule": "prior", "expiresMinutes": 0}, 422, "expires"),
        ("/v1/rollouts/nonsense/warrants", {"rule": "prior", "expiresMinutes": 9}, 404, "rollout"),
        ("/v1/rollouts", {}, 404, "the path of an operator's command"),
        ("/v1/channels/%ff/pause", {"reason": "why"}, 404, "the path of an operator's command"),
        ("", {}, 404, "the path of an operator's command"),
        ("/v1/holds", {"scope": "wave:x:stable", "reason": "why"}, 422, "scope"),
    ],
)
async def test_what_is_no_command_is_refused_by_name(
    console: Console, path: str, body: dict[str, object], status: int, found: str
) -> None:
    """As the command itself would be, and nothing is asked."""
    meant = json.dumps({"path": path, "body": body}).encode()
    answer = await console.site.operate("POST", paths.PREVIEW, meant)

    assert answer.status_code == status, answer.text
    assert found in answer.text


async def test_a_host_that_was_heard_of_a_moment_ago_is_not_skipped(console: Console) -> None:
    """The control plane knows, and its process is told."""
    async with console.site.agent("web-01") as agent:
        await agent.next_dispatch(0)
    skipped = await console.run("skip", "stable@r1", "web-01", *WHY, "--preview")

    assert "it is refused: expected hosts that were silent" in skipped.output


def _saved(console: Console, ref: str) -> Path:
    release = console.site.publisher.release(Layout(), ref, CLOCK.now())
    manifests = {
        it.value.rollout_id: SignedArtefact(it.artefact, it.signature) for it in release.manifests
    }
    signed = SignedArtefact(release.fleet.artefact, release.fleet.signature)
    directory = console.directory / ref
    directory.mkdir()
    save_release(Release(signed, FrozenMap(manifests)), directory)
    return directory
