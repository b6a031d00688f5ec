"""The declaration of the demonstration's fleet, as the TOML that a person would write. Text only.

Three waves: a canary, a few early ones, the rest. Every host has a check of its own, for each asks its own
server; the other checks come from the fleet and from a tag.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen

from nixfleet_proto.trust import TrustedKey

HOSTS_MIN: Final = 3
CHANNEL: Final = "stable"

_CANARY, _EARLY = "canary", "early"
_EARLY_HOSTS_MAX = 3

_FLEET = """\
# The fleet of `nixfleet demo`.

[fleet]
name = "shop"

[channels.{channel}]
policy = "canary-first"

# --- in which waves, and what happens when a host fails -----------------------------------------

[policies.canary-first]
on_health_failure = "rollback-and-halt"

[[policies.canary-first.waves]]
selector = {{ tags = ["canary"] }}
soak_minutes = 3

[[policies.canary-first.waves]]
selector = {{ tags = ["early"] }}
soak_minutes = 1

[[policies.canary-first.waves]]
rest = true
soak_minutes = 1

# --- how many at once ---------------------------------------------------------------------------

[[budgets]]
selector = {{ channel = "{channel}" }}
max_in_flight = {in_flight_max}

# --- health checks: of all hosts, of those with a tag, of single hosts ---------------------------

[health_checks.configuration-is-valid]
kind = "exec"
command = ["bin/check-configuration"]
interval_seconds = 20

[tags.early.health_checks.pages-are-there]
kind = "exec"
command = ["bin/check-pages"]
interval_seconds = 20
mode = "observe"
"""

_HOST = """
[hosts.{hostname}]
channel = "{channel}"
tags = [{tags}]
pubkey = "{pubkey}"

[hosts.{hostname}.health_checks.shop-answers]
kind = "http"
url = "{url}"
expect_status = 200
body_contains = "ready"
interval_seconds = 10
timeout_secs = 10
"""

_EDGE = """
[[edges]]
gates = "{gates}"
gated = "{gated}"
reason = "the database is migrated first"
"""


@frozen
class DeclaredHost:
    """What is particular to one host: where its server answers, and its public key."""

    health_url: str
    pubkey: TrustedKey


def hostnames_of(count: int) -> tuple[str, ...]:
    """Return the names of `count` hosts, at least HOSTS_MIN, in the order of their waves."""
    before_rest = 1 + _early_hosts(count)
    web = [f"web-{number:02}" for number in range(1, count + 1)]
    if count - before_rest < 2:
        return tuple(web)
    return (*web[:before_rest], "db-01", *web[before_rest:-1])


def declaration_of(hosts: Mapping[str, DeclaredHost]) -> str:
    """Return the fleet of `hosts`, by name and in the order of their waves."""
    hostnames = tuple(hosts)
    parts = [_FLEET.format(channel=CHANNEL, in_flight_max=max(2, len(hostnames) // 3))]
    parts.extend(_edges(hostnames))
    for index, (hostname, host) in enumerate(hosts.items()):
        tags = ", ".join(f'"{tag}"' for tag in _tags(index, len(hostnames)))
        parts.append(
            _HOST.format(
                hostname=hostname,
                channel=CHANNEL,
                tags=tags,
                pubkey=host.pubkey.public_key,
                url=host.health_url,
            )
        )
    return "".join(parts)


def _early_hosts(count: int) -> int:
    """How many hosts the second wave has: with six, one more than may be in flight at once."""
    return min(_EARLY_HOSTS_MAX, count // 2)


def _tags(index: int, count: int) -> tuple[str, ...]:
    if index == 0:
        return (_CANARY,)
    return (_EARLY,) if index <= _early_hosts(count) else ()


def _edges(hostnames: Sequence[str]) -> tuple[str, ...]:
    if "db-01" not in hostnames:
        return ()
    place = hostnames.index("db-01")
    return (_EDGE.format(gates=hostnames[place], gated=hostnames[place + 1]),)
