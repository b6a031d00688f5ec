"""How much a host may make its record hold. Pure.

A record's probes and the controls that fail are copied at each result, so what one host invents would make its events
dear for all. The texts and lists of one event are limited where it is decoded (`nixfleet_proto.codec.limits`).
Source: docs/spec/wire.md, Events and envelopes.
"""

from collections.abc import Callable
from typing import Final

from nixfleet_proto.agent_event import AgentEvent, ProbeResult
from nixfleet_state_machine.host.state import HostRolloutState

PROBES_MAX: Final = 256
FAILING_CONTROLS_MAX: Final = 2048
_SHOWN_LENGTH_MAX: Final = 60


def intake_objection(
    record: HostRolloutState, failing_controls: Callable[[], int], event: AgentEvent
) -> str | None:
    """Return why `record` cannot take `event`; `None` if it can. failing_controls: of the host, before `event`."""
    if not isinstance(event, ProbeResult):
        return None  # No other event adds a probe or a control.
    if len(record.probes) >= PROBES_MAX and event.probe_name not in record.probes:
        another = event.probe_name[:_SHOWN_LENGTH_MAX]
        return f"expected at most {PROBES_MAX} probes, found another one, {another!r}"
    if not event.sub_results:
        return None
    failing = failing_controls() + len(event.sub_results)
    if failing > FAILING_CONTROLS_MAX:
        return f"expected at most {FAILING_CONTROLS_MAX} failing controls, found up to {failing}"
    return None
