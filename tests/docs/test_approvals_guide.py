"""The recipes of the guide on approvals and checks: each fleet is valid, and the configuration can be read."""

import re
import tomllib
from pathlib import Path

import pytest

from nixfleet_control_plane.config_judges import JudgeConfig, JudgeKind, read_judges
from nixfleet_release import check
from nixfleet_runtime.config.options import load_content
from nixfleet_state_machine.planner.guards.words import declared_words

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "approvals-and-checks.md"
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
FLEETS = [block for block in BLOCKS if "[policies." in block]
JUDGES = [block for block in BLOCKS if "[judges." in block]


@pytest.mark.parametrize("text", FLEETS)
def test_each_fleet_of_the_guide_is_valid(text: str, tmp_path: Path) -> None:
    """And its second wave has guards."""
    file = tmp_path / "fleet.toml"
    file.write_text(text, encoding="utf-8")
    (policy,) = check(file).declaration.policies.values()
    assert list(declared_words(policy.waves[1].guards.resolved()))


def test_the_judge_of_the_guide_can_be_read_and_is_the_one_that_is_asked(tmp_path: Path) -> None:
    """The token is a private file that exists."""
    token = tmp_path / "token"
    token.touch(0o600)
    (text,) = JUDGES
    content = tomllib.loads(text.replace("/etc/nixfleet/prometheus.token", str(token)))
    judges = load_content(tmp_path / "config.toml", content, {}, read_judges).config

    judge = judges["metrics"]
    assert isinstance(judge, JudgeConfig)
    assert judge.kind is JudgeKind.PROMETHEUS
    assert 'judge = "metrics"' in FLEETS[1]
