"""The commands of docs/how-to/planning-a-release.md, run in order on a log of a fleet that ran."""

import re
import shlex
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from nixfleet_cli.main import main
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release.publish.save import save_release
from nixfleet_runtime.releases.directory import Release
from tests.engines.scratch import scratch_directory
from tests.forecast.fleets import TWO_WAVES, SlowFleet, lived

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "planning-a-release.md"
COMMANDS = re.findall(r"^\$ nixfleet (.+)$", PAGE.read_text(), re.MULTILINE)
DECLARATION = """\
[channels.stable]
policy = "canary-first"
[policies.canary-first]
on_health_failure = "rollback-and-halt"
max_failures = 1
[[policies.canary-first.waves]]
selector = { hosts = ["web-01", "web-02", "web-03"] }
soak_minutes = 5
[[policies.canary-first.waves]]
rest = true
soak_minutes = 5
"""


def _release(fleet: SlowFleet, channel_ref: str) -> Release:
    made = fleet.ci.release(TWO_WAVES, channel_ref, fleet.now)
    manifests = {
        it.value.rollout_id: SignedArtefact(it.artefact, it.signature) for it in made.manifests
    }
    return Release(SignedArtefact(made.fleet.artefact, made.fleet.signature), FrozenMap(manifests))


def test_the_commands_of_the_guide_work_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan of a release and of a declaration, a forecast, a back-test, a shadow, and a fork with its status."""
    with scratch_directory() as directory, closing(lived(directory)) as fleet:
        fleet.publish("r3")
        fleet.pass_time(minutes=2)
        (tmp_path / "releases" / "r4").mkdir(parents=True)
        save_release(_release(fleet, "r4"), tmp_path / "releases" / "r4")
        (tmp_path / "trust.json").write_bytes(encode_trust_root(fleet.ci.trust))
        fleet.store.close()
        shutil.copyfile(fleet.database, tmp_path / "control-plane.db")
    hosts = "".join(f'[hosts.{host}]\nchannel = "stable"\n' for host in TWO_WAVES.hosts)
    for name in ("fleet.toml", "next.toml"):
        (tmp_path / name).write_text(hosts + DECLARATION)
    monkeypatch.chdir(tmp_path)

    outputs = list[str]()
    for command in COMMANDS:
        ran = CliRunner().invoke(main, shlex.split(command), catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        outputs.append(ran.output)

    assert len(COMMANDS) == 7
    assert "stable@r4: at worst" in outputs[0]
    assert "wave 1 (7 hosts): begins between" in outputs[1]
    assert "stable@r3  Active" in outputs[2]
    assert "next.toml" in outputs[3]
    assert "the fleet as of row 120" in outputs[5]
    assert "stable@r1" in outputs[6]
