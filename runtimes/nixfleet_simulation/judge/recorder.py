"""Records events in the trace and the story, and passes them to the checker."""

from collections.abc import Sequence
from datetime import datetime

import orjson

from nixfleet_agent.messages.inputs import Intent
from nixfleet_agent.messages.writes import AppendEvent
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_proto.agent_event import ProbeFailureFirst, ProbeObservedFirst, ProbeResult
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_simulation.judge.checker import Checker
from nixfleet_simulation.nodes.control_plane import HandledInput
from nixfleet_simulation.nodes.host.process import HandledInput as HandledByHost
from nixfleet_simulation.nodes.host.process import KeptJournal, MachineSeen
from nixfleet_simulation.nodes.network import Answer
from nixfleet_simulation.nodes.signed_requests import Request, SignedRequest
from nixfleet_simulation.nodes.trace import Trace
from nixfleet_simulation.scenario.acts import CONTROL_PLANE

LIAR = "liar"
_VERIFIED = ("artefact_accepted", "artefact_refused", "host_enrolled", "identity_forked")


class Recorder:
    """A watcher of both sides: first the trace, then the checker."""

    def __init__(self, trace: Trace, checker: Checker) -> None:
        self._trace = trace
        self._checker = checker

    def control_plane_kept(self, handled: Sequence[HandledInput], state: State) -> None:
        """These inputs were handled, in order, and their commits are durable."""
        for each in handled:
            for write in each.commit.writes:
                if isinstance(write, LogRow):
                    self._write_down(write)
        self._checker.control_plane_kept(handled, state)

    def _write_down(self, row: LogRow) -> None:
        if row.first_fact_seq is not None:
            facts = f"{row.first_fact_seq} × {row.fact_count} {row.outcome or ''}"
            what = f"row {row.seq}: {row.host_id} {facts} of {row.payload}"
            self._trace.record(CONTROL_PLANE, what)
        elif row.kind in _VERIFIED:
            self._trace.record(CONTROL_PLANE, f"row {row.seq}: {row.rollout_id} {len(row.payload)}")
        elif row.kind == "gate_decision":
            self._trace.record(CONTROL_PLANE, f"row {row.seq}: {row.payload}")
        else:
            self._trace.narrate(CONTROL_PLANE, f"row {row.seq}: {_in_words(row)}")

    def request_accepted(self, signed: SignedRequest, now: datetime) -> None:
        """A request was accepted as its host's."""
        self._checker.request_accepted(signed, now)

    def enrollment_refused(self, request: EnrollRequest, reason: str, at: datetime) -> None:
        """An enrollment was refused."""
        self._trace.record(CONTROL_PLANE, f"refuses an enrollment: {reason}")
        self._checker.enrollment_refused(request, at)

    def answer_sent(self, hostname: str, request: Request, answer: Answer) -> None:
        """An answer is sent."""
        self._checker.answer_sent(hostname, request, answer)

    def lie_sent(self, hostname: str, request: Request, answer: Answer) -> None:
        """A control plane that lies sends an answer."""
        self._trace.record(LIAR, f"to {hostname}: {answer}")
        self._checker.lie_sent(hostname, answer)

    def control_plane_started(self, state: State, at: datetime) -> None:
        """A control plane started."""
        self._checker.control_plane_started(state, at)

    def agent_kept(
        self, hostname: str, handled: Sequence[HandledByHost], machine: MachineSeen
    ) -> None:
        """These inputs were handled, in order, and their commits are durable."""
        for each in handled:
            for write in each.commit.writes:
                if isinstance(write, AppendEvent):
                    self._live(hostname, write)
        self._checker.agent_kept(hostname, handled, machine)

    def _live(self, hostname: str, write: AppendEvent) -> None:
        fact = write.fact
        what = f"{write.rollout_id} fact {fact.seq}: {type(fact).__name__}"
        if isinstance(fact, ProbeResult | ProbeObservedFirst | ProbeFailureFirst):
            self._trace.record(hostname, what)
        else:
            self._trace.narrate(hostname, what)

    def agent_started(self, hostname: str, expected: KeptJournal, found: KeptJournal) -> None:
        """An agent started."""
        self._checker.agent_started(hostname, expected, found)

    def intent_began(self, hostname: str, intent: Intent, running: str) -> None:
        """The machine begins to carry out an intent."""
        self._checker.intent_began(hostname, intent, running)

    def engine_raised(self, who: str, input: object, error: Exception) -> None:
        """An engine raised on an input: a bug."""
        self._trace.narrate(who, f"raises {error!r}")
        self._checker.engine_raised(who, input, error)


def _in_words(row: LogRow) -> str:
    payload = orjson.loads(row.payload)
    kind = payload.pop("kind")
    left_out = ("at", "rollout_id", "operator", "soak_due_at")
    text = ", ".join(f"{value}" for key, value in payload.items() if key not in left_out)
    return f"{row.rollout_id or ''} {kind} {text}".strip()
