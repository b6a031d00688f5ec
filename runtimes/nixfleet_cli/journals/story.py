"""What one host lived, by its agent's journal: a line for each fact, in the words of the control plane's log."""

import json
from pathlib import Path
from typing import assert_never

from nixfleet_agent.journal.journal import snapshot_of
from nixfleet_agent.journal.queries import Delivery, LivedFact, lived_facts
from nixfleet_cli.journals.opening import reading_journal
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.output import Output, note, shown_time
from nixfleet_proto.agent_event import ProbeResult, ProbeStatus
from nixfleet_proto.codec import encode_event
from nixfleet_runtime.documents.problems import unknown
from nixfleet_runtime.fact_words import fact_words, is_routine


def show_story(
    output: Output,
    path: Path,
    host: str | None,
    rollout: str | None,
    after: int,
    *,
    with_routine: bool,
) -> None:
    """Print what the host of the journal at `path` lived. Raises: Findings, Unusable."""
    left_out = 0
    rollouts = set[str]()
    with reading_journal(path) as journal:
        hostnames = {each.record.hostname for each in snapshot_of(journal).rollouts}
        probes: dict[tuple[str, str], ProbeStatus] = {}
        for lived in lived_facts(journal):
            rollouts.add(lived.rollout_id)
            repeats = _repeats(probes, lived)
            if lived.row_id <= after or rollout not in (None, lived.rollout_id):
                continue
            if repeats and not with_routine and lived.delivery is not Delivery.REFUSED:
                left_out += 1
                continue
            value = _value(lived, next(iter(hostnames), None)) if output.as_json else None
            output.show(value, [_line(lived)])
    if rollout is not None and rollout not in rollouts:
        raise Findings(str(unknown("--rollout", "rollout", rollout, rollouts)))
    if host is not None and host not in hostnames:
        raise Findings(str(unknown("--host", "host", host, hostnames)))
    if left_out:
        note(f"({left_out} repeated probe results left out; --all shows them)")


def _repeats(probes: dict[tuple[str, str], ProbeStatus], lived: LivedFact) -> bool:
    """Return whether a fact only repeats a result; note its own."""
    fact = lived.fact
    if not isinstance(fact, ProbeResult):
        return is_routine(fact, None)
    key = lived.rollout_id, fact.probe_name
    known = probes.get(key)
    probes[key] = fact.status
    return is_routine(fact, known)


def _line(lived: LivedFact) -> str:
    when = shown_time(lived.emitted_at)
    said = f"{lived.row_id:>5}  {when}  {lived.rollout_id:<17} {fact_words(lived.fact)}"
    delivery = lived.delivery
    match delivery:
        case Delivery.ACKNOWLEDGED:
            return said
        case Delivery.WAITING:
            return f"{said} (not sent yet)"
        case Delivery.REFUSED:
            return f"{said} (refused by the control plane: {lived.refused_reason})"
        case _:
            assert_never(delivery)


def _value(lived: LivedFact, hostname: str | None) -> object:
    return {
        "seq": lived.row_id,
        "at": lived.emitted_at,
        "kind": type(lived.fact).__name__,
        "rolloutId": lived.rollout_id,
        "host": hostname,
        "text": fact_words(lived.fact),
        "delivery": lived.delivery,
        "refusedReason": lived.refused_reason,
        "payload": json.loads(encode_event(lived.fact)),
    }
