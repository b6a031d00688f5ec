"""The alerts that every fleet wants, as Prometheus rules. Data, and its YAML.

An alert says what is so, and which command shows more. Expressions name metrics of the catalogue alone; a test holds
them against it, and `promtool check rules` reads them.
"""

from collections.abc import Iterator
from typing import Final

import orjson
from attrs import frozen


@frozen
class Rule:
    """An alert. expression: in PromQL. minutes: for how long it must hold. severity: `page` or `ticket`."""

    name: str
    expression: str
    minutes: int
    severity: str
    summary: str
    description: str


_HOUR: Final = 3600
RULES: Final = (
    Rule(
        "NixfleetAbsent",
        "absent(nixfleet_program)",
        5,
        "page",
        "No control plane is scraped",
        "Nothing is dispatched and no event is taken while it is down; hosts run on, and report later.",
    ),
    Rule(
        "NixfleetRolloutHalted",
        'sum(nixfleet_rollouts{state=~"Failed|Reverted"}) > 0',
        0,
        "page",
        "A rollout is halted",
        "Hosts failed beyond what the policy tolerates. `nixfleet operator overview` says why, and what answers it.",
    ),
    Rule(
        "NixfleetNeedsPerson",
        "sum by (kind) (nixfleet_needs_person) > 0",
        60,
        "ticket",
        "Something waits for a person: {{ $labels.kind }}",
        "`nixfleet operator overview` lists it with the command that answers it.",
    ),
    Rule(
        "NixfleetHostsWaitLong",
        f'max by (gate) (nixfleet_oldest_wait_seconds{{gate!="wave-promotion"}}) > {24 * _HOUR}',
        10,
        "ticket",
        "Hosts have waited for a day: {{ $labels.gate }}",
        "`nixfleet operator overview` says for what, and until when.",
    ),
    Rule(
        "NixfleetReleaseGoesStale",
        # The last quarter of the time for which it is accepted: some releases are signed every hour.
        "nixfleet_release_seconds_until_stale < nixfleet_release_age_seconds / 3",
        10,
        "page",
        "Hosts soon refuse the release of {{ $labels.channel }}",
        "Its signature is too old: sign the release again.",
    ),
    Rule(
        "NixfleetArtefactsRefused",
        "nixfleet_artefacts_refused > 0",
        15,
        "ticket",
        "A release is refused",
        "`nixfleet operator refused` shows the reason; what is in force stays in force.",
    ),
    Rule(
        "NixfleetLeftOutAtStart",
        "nixfleet_left_out_at_start > 0",
        0,
        "page",
        "The control plane could not load all of its database",
        "`nixfleet operator releases` says what, and what to do.",
    ),
    Rule(
        "NixfleetHostsFallSilent",
        "delta(nixfleet_hosts_silent[15m]) > 10",
        5,
        "page",
        "Many hosts have fallen silent",
        "`nixfleet operator silent` lists them, and since when.",
    ),
    Rule(
        "NixfleetEventsForked",
        'increase(nixfleet_events_total{answer="forked"}[15m]) > 0',
        0,
        "page",
        "A host contradicts itself",
        "Two machines may have one key. The host is held: `nixfleet operator overview` names it.",
    ),
    Rule(
        "NixfleetClockSkew",
        "nixfleet_host_clock_skew_seconds_max > 30",
        10,
        "ticket",
        "The clock of a host is off",
        "From 60 s on its requests are refused. `nixfleet operator hosts` shows each clock.",
    ),
    Rule(
        "NixfleetQueueLong",
        "nixfleet_queue_length > 2000",
        5,
        "page",
        "The control plane does not keep up",
        "Near `limits.queue_length_max`, requests are answered with 503.",
    ),
)


def rules_text(rules: tuple[Rule, ...] = RULES) -> str:
    """Return the rules as a file that Prometheus reads: YAML, whose texts are JSON strings."""
    return "\n".join(_lines(rules)) + "\n"


def _lines(rules: tuple[Rule, ...]) -> Iterator[str]:
    yield "# Made by `nixfleet control-plane rules`: do not edit."
    yield "groups:"
    yield "  - name: nixfleet"
    yield "    rules:"
    for rule in rules:
        yield f"      - alert: {rule.name}"
        yield f"        expr: {_quoted(rule.expression)}"
        yield f"        for: {rule.minutes}m"
        yield "        labels:"
        yield f"          severity: {rule.severity}"
        yield "        annotations:"
        yield f"          summary: {_quoted(rule.summary)}"
        yield f"          description: {_quoted(rule.description)}"


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
