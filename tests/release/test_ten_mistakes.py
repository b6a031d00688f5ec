"""One declaration with ten mistakes of different sorts, and the whole report that comes of it."""

from pathlib import Path

import pytest

from nixfleet_release import DeclarationError, check

TEN_MISTAKES = """
[fleet]
nmae = "shop"

[hosts.web-01]
channel = "stable"
tags = ["web", "canary"]

[hosts.web-02]
channel = "stabel"
tags = ["web"]

[hosts.web-03]
channel = "stable"
tags = "web"

[hosts.db-01]
channel = "stable"
tags = ["db"]

[channels.stable]
policy = "canary-first"
freshness_window_minutes = 30

[channels.edge]
policy = "canary-last"

[hosts.edge-01]
channel = "edge"

[[policies.canary-first.waves]]
selector = { tags = ["canary"] }

[[policies.canary-first.waves]]
selector = { hosts = ["web-01", "web-03"] }

[[edges]]
gates = "web-03"
gated = "web-03"

[[budgets]]
selector = { tags = ["web"] }
max_in_flight = 0

[health_checks.up]
kind = "tcp"
host = "localhost"
"""

TEN_MESSAGES = """\
the fleet declaration has 10 problems:
  fleet.toml:3:1: fleet.nmae: unknown key: expected one of name, found "nmae"; did you mean name?
  fleet.toml:10:11: hosts.web-02.channel: no such channel: expected one of edge, stable, found "stabel"; \
did you mean stable?
  fleet.toml:15:8: hosts.web-03.tags: cannot be used: expected an array, [...], found "web"
  fleet.toml:23:28: channels.stable.freshness_window_minutes: artefacts would expire before they are signed \
again: expected at least 120, twice signing_interval_minutes, found 30
  fleet.toml:26:10: channels.edge.policy: no such policy: expected one of canary-first, found "canary-last"; \
did you mean canary-first?
  fleet.toml:31:25: policies.canary-first.waves: hosts of channel stable in no wave: expected each host in one wave \
(a wave with rest = true has the remaining hosts), found db-01
  fleet.toml:34:25: policies.canary-first.waves[1]: hosts of channel stable in two waves: \
expected each host in one wave, found web-01 in waves[0] too
  fleet.toml:37:3: edges[0]: a cycle: expected no cycle, found web-03 → web-03
  fleet.toml:43:17: budgets[0].max_in_flight: out of range: expected at least 1, found 0
  fleet.toml:45:16: health_checks.up.port: missing: expected an integer, found nothing"""


def test_ten_mistakes_are_told_in_ten_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistakes of every sort, in one file, are all found at once and none of them twice."""
    monkeypatch.chdir(tmp_path)
    Path("fleet.toml").write_text(TEN_MISTAKES)

    with pytest.raises(DeclarationError) as caught:
        check(Path("fleet.toml"))

    assert str(caught.value) == TEN_MESSAGES
