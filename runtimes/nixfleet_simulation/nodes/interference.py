"""Whoever is between the hosts and the control plane: attackers who copy, alter and make up requests, and bad proxies.

They hold no key but that of a host of their own. TLS would keep most of them out; the protocol must not need it.
"""

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, assert_never

from attrs import evolve

from nixfleet_proto.enrollment import EnrollRequest, SignedToken
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.http.problem import UNTYPED, HttpProblem
from nixfleet_runtime.transport import Heartbeat, TransportFailed
from nixfleet_simulation.nodes.agenda import SECOND, Agenda
from nixfleet_simulation.nodes.network import Call, unanswered
from nixfleet_simulation.nodes.signed_requests import Request, SignedRequest
from nixfleet_simulation.scenario.acts import (
    AlterRequests,
    AnswerBadly,
    BadAnswer,
    BorrowName,
    ReplayRequests,
)
from nixfleet_simulation.scenario.randomness import Seed, stream

EVIL: Final = "evil"
YEARS_SECONDS: Final = 1e9

Between: TypeAlias = ReplayRequests | BorrowName | AlterRequests | AnswerBadly


class Sign(Protocol):
    """Signs requests with hosts' keys."""

    def __call__(self, by: str, request: Request, hostname: str = "") -> SignedRequest:
        """Return `request`, signed with the key of `by`, as `hostname`; empty: as itself."""
        ...


class Interference:
    """What is done to requests on their way. pass_on: hands a request to the control plane.

    replayed, made_up: the number of requests that attackers sent.
    """

    def __init__(
        self, agenda: Agenda, seed: Seed, pass_on: Callable[[Call], None], sign: Sign
    ) -> None:
        self.replayed = 0
        self.made_up = 0
        self._agenda = agenda
        self._rng = stream(seed, "interference")
        self._pass_on = pass_on
        self._sign = sign
        self._under_way: list[Between] = []

    def begin(self, fault: Between) -> None:
        """Begin a fault."""
        self._under_way.append(fault)

    def end(self, fault: Between) -> None:
        """End a fault, unless it was ended before."""
        if fault in self._under_way:
            self._under_way.remove(fault)

    def end_all(self) -> None:
        """End all faults. What was copied before is still sent."""
        self._under_way.clear()

    def deliver(self, call: Call) -> None:
        """Hand a request to the control plane, or do what the faults under way do with it."""
        for fault in self._under_way:
            passed = self._interfere(fault, call)
            if passed is None:
                return
            call = passed
        self._pass_on(call)

    def ask_with_token_of(self, token: SignedToken, by: str) -> None:
        """Have the host `by` enroll with its own key and the token of another host."""
        request = self._sign(by, Heartbeat(by, EVIL, FrozenMap()))
        stolen = EnrollRequest(token, request.signed_with)
        self._make_up(self._sign(by, stolen, token.token.hostname))

    def _interfere(self, fault: Between, call: Call) -> Call | None:
        """Return the call to go on with; `None`: it is answered already, or never will be."""
        match fault:
            case ReplayRequests():
                if fault.host in ("", call.hostname):
                    self._copy(fault, call)
            case BorrowName():
                if fault.by == call.hostname != fault.host:
                    heartbeat = Heartbeat(fault.host, EVIL, FrozenMap())
                    self._make_up(self._sign(fault.by, heartbeat, fault.host))
            case AlterRequests():
                if fault.host in ("", call.hostname) and call.signed.body:
                    body = call.signed.body.replace(b'":"', b'":"evil-', 1)
                    return call.asking(evolve(call.signed, body=body, is_altered=True))
            case AnswerBadly():
                if fault.host in ("", call.hostname) and self._rng.random() < fault.share:
                    return self._answered_badly(fault.answer, call)
            case _:
                assert_never(fault)
        return call

    def _copy(self, fault: ReplayRequests, call: Call) -> None:
        self.replayed += 1
        late = int(fault.late_seconds * SECOND)
        self._agenda.after(late, None, self._pass_on, unanswered(call.signed))

    def _make_up(self, signed: SignedRequest) -> None:
        self.made_up += 1
        self._pass_on(unanswered(signed))

    def _answered_badly(self, answer: BadAnswer, call: Call) -> Call | None:
        if self._rng.random() < 0.5:
            self._send(answer, call)
            return None
        # Carried out, and answered by who is in between.
        return Call(
            call.signed, lambda _: self._send(answer, call), lambda _: self._send(answer, call)
        )

    def _send(self, answer: BadAnswer, call: Call) -> None:
        match answer:
            case BadAnswer.TOO_MANY:
                call.refuse(_problem(429), self._rng.uniform(1, 20))
            case BadAnswer.TOO_MANY_FOR_YEARS:
                call.refuse(_problem(429), YEARS_SECONDS)
            case BadAnswer.TOO_LARGE:
                call.refuse(_problem(413))
            case BadAnswer.ERROR:
                call.refuse(_problem(500))
            case BadAnswer.UNAVAILABLE:
                call.refuse(_problem(503), self._rng.uniform(60, 600))
            case BadAnswer.NONE:
                pass
            case BadAnswer.TOO_LONG:
                found = "expected an answer of at most 1048576 bytes, found more"
                call.break_off(TransportFailed(found, kind="AnswerTooLarge"))
            case BadAnswer.UNREADABLE:
                call.break_off(TransportFailed("the answer cannot be read"))
            case _:
                assert_never(answer)


def _problem(status: int) -> HttpProblem:
    return HttpProblem(UNTYPED, "Proxy", status)
