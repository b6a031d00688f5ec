"""One declaration with ten mistakes of different sorts, and the whole report that comes of it."""

from collections.abc import Callable

from nixfleet_release import DeclarationError, Problem

Problems = Callable[[str], tuple[Problem, ...]]

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
  budgets[0].max_in_flight: out of range: expected at least 1, found 0
  channels.edge.policy: no such policy: expected one of canary-first, found "canary-last"
  channels.stable.freshness_window_minutes: artefacts would go stale before they are signed anew: \
expected at least 120, twice signing_interval_minutes, found 30
  edges: a cycle: expected an order, found web-03 → web-03
  fleet.nmae: unknown key: expected one of name, found "nmae"
  health_checks.up.port: missing: expected an integer, found nothing
  hosts.web-02.channel: no such channel: expected one of edge, stable, found "stabel"
  hosts.web-03.tags: cannot be used: expected an array, [...], found "web"
  policies.canary-first.waves: hosts of channel stable in no wave: expected each host in one wave \
(a wave with rest = true has those that are left), found db-01
  policies.canary-first.waves[1]: hosts of channel stable in two waves: \
expected each host in one wave, found web-01 in waves[0] too"""


def test_ten_mistakes_are_told_in_ten_messages(problems: Problems) -> None:
    """Mistakes of every sort, in one file, are all found at once and none of them twice."""
    assert str(DeclarationError(problems(TEN_MISTAKES))) == TEN_MESSAGES
