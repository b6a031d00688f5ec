"""The fleet of `fleet.toml`, declared in Python: the same hosts, waves and checks, and so the same signed bytes.

Run it: it prints what every web server lives by. docs/how-to/declaring-a-fleet.md explains every word.
"""

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.health_check import ExecProbe, HttpProbe, TcpProbe
from nixfleet_release import Fleet, on_channel, on_host, on_tag, rest, wave
from nixfleet_state_machine.scopes.setting import explain


def is_active(*units: str) -> ExecProbe:
    return ExecProbe(("systemctl", "is-active", "--quiet", *units), mode=ProbeMode.OBSERVE)


fleet = (
    Fleet("shop")
    .host("db-01", channel="stable", tags=["db", "canary"])
    .host("office-01", channel="office", platform="aarch64-linux")
    .channel("stable", policy="canary-first")
    .channel(
        "office",
        policy="all-at-once",
        freshness_window_minutes=1440,
        signing_interval_minutes=360,
    )
    .policy(
        "canary-first",
        wave("tags:canary", soak_minutes=5),
        rest(soak_minutes=1),
        on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT,
    )
    .policy("all-at-once", on_health_failure=OnHealthFailure.HALT)
    .budget("tags:web", max_in_flight=1)
    .edge(gates="db-01", gated="web-01", reason="the schema is migrated first")
    .channel_edge(gates="stable", gated="office")
    .health_check(
        "system-is-up",
        ExecProbe(("systemctl", "is-system-running", "--quiet"), mode=ProbeMode.OBSERVE),
    )
    .health_check("system-is-up", is_active("multi-user.target"), on=on_channel("office"))
    .health_check(
        "http-ok",
        HttpProbe("http://127.0.0.1:8080/healthz", body_contains="ok", interval_seconds=10),
        on=on_tag("web"),
    )
    .health_check(
        "accepts-connections",
        TcpProbe("127.0.0.1", 5432, interval_seconds=10),
        on=on_host("db-01"),
    )
)
# What a file would repeat is a loop here.
for number in (1, 2, 3):
    tags = ["web", "canary"] if number == 1 else ["web"]
    fleet = fleet.host(f"web-{number:02}", channel="stable", tags=tags)

if __name__ == "__main__":
    checked = fleet.check()
    for hostname, host in checked.declaration.hosts.items():
        if "web" in host.tags:
            for told in explain(checked.settings, hostname, host):
                print(f"{hostname}: {told.key} from {told.scope}")
