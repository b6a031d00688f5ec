"""The commands of docs/how-to/auditing-a-log.md, run in order on a log of a fleet that ran."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from nixfleet_proto.codec import encode_trust_root
from tests.engines.releases import OPERATOR_KEY
from tests.engines.small_fleet import SmallFleet

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "auditing-a-log.md"
COMMAND = re.compile(r"^\$ (.+)$", re.MULTILINE)


def test_the_commands_of_the_guide_work_in_its_order(tmp_path: Path) -> None:
    """A checkpoint, its check, a proof, and the auditor's program, which gets the operator's public key."""
    fleet = SmallFleet(tmp_path)
    fleet.publish("r1")
    fleet.pass_time(minutes=15)
    fleet.store.close()
    fleet.database.rename(tmp_path / "control-plane.db")
    OPERATOR_KEY.save(tmp_path / "ada.key")
    (tmp_path / "trust.json").write_bytes(encode_trust_root(fleet.ci.trust))
    (tmp_path / "verify_log_proof.py").write_bytes(
        (ROOT / "examples" / "verify_log_proof.py").read_bytes()
    )
    commands = COMMAND.findall(PAGE.read_text())
    programs = {
        "nixfleet": [sys.executable, "-m", "nixfleet_cli"],
        "python": [sys.executable],
    }

    outputs = list[str]()
    for command in commands:
        name, *arguments = shlex.split(
            command.replace("PUBLIC_KEY", OPERATOR_KEY.public_key.public_key)
        )
        ran = subprocess.run(
            [*programs[name], *arguments],
            cwd=tmp_path,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(ran.stdout)

    assert len(commands) == 5
    assert "the log continues 2026-05.checkpoint" in outputs[1]
    assert "facts signed by their hosts: " in outputs[2]
    assert outputs[4].splitlines()[0].startswith("'ada' vouched at ")
    assert outputs[4].splitlines()[1] == "row 7 stands in it:"
