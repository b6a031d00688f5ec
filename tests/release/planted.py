"""A good fleet that uses everything, and mistakes to plant in it: each is one message."""

# ruff: noqa: E501  (a mistake is read on one line)

from attrs import frozen

GOOD = """\
[fleet]
name = "shop"

[hosts.web-01]
channel = "stable"
tags = ["web", "canary"]

[hosts.web-02]
channel = "stable"
tags = ["web"]
platform = "aarch64-linux"

[hosts.web-03]
channel = "stable"
tags = ["web"]

[hosts.db-01]
channel = "stable"
tags = ["db"]

[hosts.db-02]
channel = "stable"
tags = ["db"]

[hosts.lab-01]
channel = "lab"

[hosts.lab-02]
channel = "lab"

[hosts.lab-02.health_checks.ready]
kind = "exec"
command = ["test", "-e", "/run/ready"]
expect_exit_code = 0

[channels.stable]
policy = "canary-first"
signing_interval_minutes = 60
freshness_window_minutes = 180

[channels.stable.compliance.nis2]
evidence_path = "/var/lib/evidence/nis2.json"
mode = "enforce"

[channels.stable.pin]
commit = "a1b2c3"
expires_at = 2099-06-01T00:00:00Z

[channels.lab]
policy = "all-at-once"
freshness_window_minutes = 200

[policies.canary-first]
on_health_failure = "rollback-and-halt"

[[policies.canary-first.waves]]
selector = { tags = ["canary"] }
soak_minutes = 5

[[policies.canary-first.waves]]
selector = "tags:web & !tags:canary"
soak_minutes = 3

[[policies.canary-first.waves]]
rest = true

[policies.all-at-once]
on_health_failure = "halt"

[[budgets]]
selector = { tags = ["web"] }
max_in_flight = 1

[[budgets]]
selector = { channel = "lab", not = { hosts = ["lab-02"] } }
max_in_flight_pct = 50

[[edges]]
gates = "web-02"
gated = "web-03"

[[edges]]
gates = "db-01"
gated = "db-02"
reason = "the first has the schema"

[[channel_edges]]
gates = "lab"
gated = "stable"

[health_checks.up]
kind = "exec"
command = ["systemctl", "is-system-running"]
mode = "observe"

[tags.web.health_checks.http-ok]
kind = "http"
url = "http://127.0.0.1:8080/healthz"
expect_status = 200
interval_seconds = 10

[tags.db.health_checks.accepts]
kind = "tcp"
host = "127.0.0.1"
port = 5432
connect_timeout_secs = 2

[hosts.db-01.compliance.nis2]
reason = "an old machine"
control_overrides.art-21 = { mode = "disabled", reason = "no such service" }
"""


@frozen
class Planted:
    """`new` in place of the first `old` after `section`; it is told at `path`, in the line of `new` or of `section`."""

    section: str
    old: str
    new: str
    path: str
    suggestion: str | None = None
    is_told_at_section: bool = False


MISTAKES = (
    # names that refer to nothing
    Planted("[hosts.web-02]", '"stable"', '"stabel"', "hosts.web-02.channel", "stable"),
    Planted("[channels.lab]", '"all-at-once"', '"all-at-onse"', "channels.lab.policy", "all-at-once"),
    Planted("[[policies.canary-first.waves]]", '"canary"', '"canray"', "policies.canary-first.waves[0].selector.tags[0]", "canary"),
    Planted('selector = "tags:web', "tags:web &", "tags:wbe &", "policies.canary-first.waves[1].selector", "web"),
    Planted("[[budgets]]", '["web"]', '["wbe"]', "budgets[0].selector.tags[0]", "web"),
    Planted("max_in_flight = 1", '"lab-02"', '"lab-20"', "budgets[1].selector.not.hosts[0]", "lab-02"),
    Planted("[[edges]]", '"web-03"', '"web-3"', "edges[0].gated", "web-03"),
    Planted("[[channel_edges]]", '"lab"', '"labs"', "channel_edges[0].gates", "lab"),
    Planted("[tags.db.health", "tags.db.", "tags.bd.", "tags.bd", None),
    Planted("[hosts.db-01.compliance", "nis2]", "nis3]", "hosts.db-01.compliance.nis3"),
    # keys that nobody knows
    Planted("[fleet]", "name", "nmae", "fleet.nmae", "name"),
    Planted("[hosts.web-03]", "tags", "tag", "hosts.web-03.tag", "tags"),
    Planted("[hosts.lab-01]", "channel", "chanel", "hosts.lab-01.chanel", "channel"),
    Planted("[channels.stable]", "policy", "polcy", "channels.stable.polcy", "policy"),
    Planted("[policies.all-at-once]", "on_health_failure", "on_failure", "policies.all-at-once.on_failure", "on_health_failure"),
    Planted("[tags.db.health", "port", "prot", "tags.db.health_checks.accepts.prot", "port"),
    Planted("[[budgets]]", "max_in_flight", "max_inflight", "budgets[0].max_inflight", "max_in_flight"),
    Planted("[channels.stable.pin]", "commit", "comit", "channels.stable.pin.comit", "commit"),
    # values of the wrong type
    Planted("[hosts.web-02]", '["web"]', '"web"', "hosts.web-02.tags"),
    Planted("[channels.lab]", "= 200", '= "200"', "channels.lab.freshness_window_minutes"),
    Planted("[channels.stable.pin]", "2099-06-01T00:00:00Z", '"2099-06-01"', "channels.stable.pin.expires_at"),
    Planted("[[edges]]", '"web-02"', "2", "edges[0].gates"),
    Planted("[hosts.web-02]", '"aarch64-linux"', "1979-05-27", "hosts.web-02.platform"),
    Planted("[health_checks.up]", '["systemctl", "is-system-running"]', '"systemctl"', "health_checks.up.command"),
    Planted("selector = { tags", "5", "5.0", "policies.canary-first.waves[0].soak_minutes"),
    Planted("[[policies.canary-first.waves]]\nrest", "true", '"yes"', "policies.canary-first.waves[2].rest"),
    # values that make no sense
    Planted("[channels.stable]", "180", "100", "channels.stable.freshness_window_minutes"),
    Planted("[[budgets]]", "= 1", "= 0", "budgets[0].max_in_flight"),
    Planted("max_in_flight_pct", "50", "101", "budgets[1].max_in_flight_pct"),
    Planted("[tags.web.health", '"http://127.0.0.1:8080/healthz"', '"127.0.0.1:8080"', "tags.web.health_checks.http-ok.url"),
    Planted("[tags.web.health", ":8080", ":80800", "tags.web.health_checks.http-ok.url"),
    Planted("[tags.web.health", "= 10", "= 0", "tags.web.health_checks.http-ok.interval_seconds"),
    Planted("[tags.db.health", "5432", "65536", "tags.db.health_checks.accepts.port"),
    Planted("[tags.db.health", "= 2", "= -2", "tags.db.health_checks.accepts.connect_timeout_secs"),
    Planted("[tags.db.health", '"127.0.0.1"', '"tcp://db"', "tags.db.health_checks.accepts.host"),
    Planted("[hosts.lab-02.health", '["test", "-e", "/run/ready"]', "[]", "hosts.lab-02.health_checks.ready.command"),
    Planted("[hosts.lab-02.health", "= 0", "= 300", "hosts.lab-02.health_checks.ready.expect_exit_code"),
    Planted("[health_checks.up]", '"observe"', '"warn"', "health_checks.up.mode"),
    Planted("[health_checks.up]", '"exec"', '"exce"', "health_checks.up.kind", "exec"),
    Planted("[policies.canary-first]", '"rollback-and-halt"', '"rollback"', "policies.canary-first.on_health_failure", "rollback-and-halt"),
    Planted("[channels.stable.compliance", '"/var/lib', '"var/lib', "channels.stable.compliance.nis2.evidence_path"),
    Planted("[channels.stable.compliance", '"enforce"', '"enforced"', "channels.stable.compliance.nis2.mode", "enforce"),
    Planted("control_overrides.art-21", '"disabled"', '"off"', "hosts.db-01.compliance.nis2.control_overrides.art-21.mode"),
    Planted('selector = "tags:web', '!tags:canary"', '!"', "policies.canary-first.waves[1].selector"),
    # what is no TOML
    Planted("[hosts.db-02]", '"stable"', "stable", "hosts.db-02.channel"),
    Planted("[hosts.web-03]", '["web"]', '["web"', "hosts.web-03.tags"),
    Planted("[hosts.lab-02]", '"lab"', '"lab', "hosts.lab-02.channel"),
    Planted("[tags.web.health", "200", "0200", "tags.web.health_checks.http-ok.expect_status"),
    Planted("", "[channels.lab]", "[channels.lab", "channels.lab"),
    Planted("[hosts.db-01]", 'tags = ["db"]', 'channel = "stable"', "hosts.db-01.channel"),
    Planted("", "[channels.stable.pin]", "[channels.stable.compliance.nis2]", "channels.stable.compliance.nis2"),
)  # fmt: skip

# What statements come to together. Another mistake in one of them may leave it open, and then it is not told.
CONSEQUENCES = (
    Planted("[[edges]]\ngates = \"db", '"db-02"', '"db-01"', "edges[1]", is_told_at_section=True),
    Planted("[[edges]]\ngates = \"db", '"db-02"', '"lab-01"', "edges[1]", is_told_at_section=True),
    Planted("[[edges]]\ngates = \"db", '"db-02"', '"web-01"', "edges[1]", is_told_at_section=True),
    Planted("[[channel_edges]]", '"stable"', '"lab"', "channel_edges[0]", is_told_at_section=True),
    Planted("[[policies.canary-first.waves]]\nselector = {", "rest = true", 'selector = "hosts:db-01"', "policies.canary-first.waves", is_told_at_section=True),
    Planted("[[policies.canary-first.waves]]\nselector = \"", '& !tags:canary"', '"', "policies.canary-first.waves[1]", is_told_at_section=True),
)  # fmt: skip


def place_of(mistake: Planted) -> tuple[int, int]:
    """From where to where in GOOD the mistake stands."""
    begin = GOOD.index(mistake.old, GOOD.index(mistake.section))
    return begin, begin + len(mistake.old)


def line_of(mistake: Planted) -> int:
    """The line in which it is told."""
    at_section, at_itself = GOOD.index(mistake.section), place_of(mistake)[0]
    return GOOD.count("\n", 0, at_section if mistake.is_told_at_section else at_itself) + 1


def stanza_of(mistake: Planted) -> int:
    """Which of the parts of GOOD, between empty lines, it is in."""
    return GOOD.count("\n\n", 0, place_of(mistake)[0])


def planted(*mistakes: Planted) -> str:
    """GOOD with the mistakes in it, which are in different lines."""
    text = GOOD
    for mistake in sorted(mistakes, key=place_of, reverse=True):
        begin, end = place_of(mistake)
        text = text[:begin] + mistake.new + text[end:]
    return text
