"""The network between the hosts and the control plane: it delays, loses, repeats and reorders messages.

A call is a request, then an answer. The caller learns of a fault only by a missing answer or a broken connection.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from attrs import frozen

from nixfleet_agent.network.answers import enrollment_failure, failure_of
from nixfleet_agent.network.enrollment import EnrollmentRefused
from nixfleet_control_plane.messages.inputs import DispatchAnswer, ManifestAnswer
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem
from nixfleet_runtime.transport import EventsOutcome, HeartbeatReply, TransportFailed
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.signed_requests import Request, SignedRequest
from nixfleet_simulation.scenario.acts import Direction, LossyNetwork, Partition
from nixfleet_simulation.scenario.randomness import Random, Seed, stream

LATENCY = (500, 30_000)


@frozen
class Enrolled:
    """The host is enrolled."""


Answer: TypeAlias = EventsOutcome | DispatchAnswer | ManifestAnswer | HeartbeatReply | Enrolled
Failure: TypeAlias = TransportFailed | EnrollmentRefused


class Call:
    """One request of one host, and the way back for its answer."""

    __slots__ = ("_answer", "_fail", "signed")

    def __init__(
        self,
        signed: SignedRequest,
        answer: Callable[[Answer], None],
        fail: Callable[[Failure], None],
    ) -> None:
        self.signed = signed
        self._answer = answer
        self._fail = fail

    @property
    def hostname(self) -> str:
        """The host that the request says it is from."""
        return self.signed.hostname

    @property
    def request(self) -> Request:
        """What is asked."""
        return self.signed.request

    def answer(self, answer: Answer) -> None:
        """Send `answer` back."""
        self._answer(answer)

    def answered_through(self, change: Callable[[Answer], Answer]) -> "Call":
        """Return the same call, whose answers are changed on their way."""
        return Call(self.signed, lambda answer: self._answer(change(answer)), self._fail)

    def asking(self, signed: SignedRequest) -> "Call":
        """Return a call with the same way back, in which `signed` is asked."""
        return Call(signed, self._answer, self._fail)

    def break_off(self, failure: Failure) -> None:
        """Have the caller get no usable answer."""
        self._fail(failure)

    def refuse(self, problem: HttpProblem, retry_after_seconds: float | None = None) -> None:
        """Send back `problem`, which the caller understands as the production transport does."""
        is_enrollment = isinstance(self.request, EnrollRequest)
        understood = enrollment_failure if is_enrollment else failure_of
        self._fail(understood(problem, retry_after_seconds))

    def fail(self, status: int, detail: str, retry_after_seconds: float | None = None) -> None:
        """Send back a problem of no particular type."""
        problem = HttpProblem(f"{TYPE_PREFIX}simulated", "No answer", status, detail)
        self.refuse(problem, retry_after_seconds)


def unanswered(signed: SignedRequest) -> Call:
    """Return a call whose answer nobody hears."""
    return Call(signed, _ignored, _ignored)


def _ignored(_: object) -> None:
    """Ignore it."""


class _Link:
    """One host's connection to the control plane, and its random stream."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.lossy: list[LossyNetwork] = []
        self.partitions: list[Partition] = []

    def end(self, fault: LossyNetwork | Partition) -> None:
        """End a fault, unless it was cleared before."""
        if isinstance(fault, LossyNetwork):
            if fault in self.lossy:
                self.lossy.remove(fault)
        elif fault in self.partitions:
            self.partitions.remove(fault)


class Network:
    """All links. deliver: hands a request to the control plane. sign: signs a request of a host, as of now.

    answered_at: when an answer last reached each host. is_cut_off: whether what a host runs cuts its network.
    """

    def __init__(
        self,
        agenda: Agenda,
        seed: Seed,
        hosts: tuple[str, ...],
        deliver: Callable[[Call], None],
        sign: Callable[[str, Request], SignedRequest],
        is_cut_off: Callable[[str], bool],
    ) -> None:
        self.answered_at: dict[str, int] = {}
        self._is_cut_off = is_cut_off
        self.lost = 0
        self.repeated = 0
        self._agenda = agenda
        self._deliver = deliver
        self._sign = sign
        self._links = {host: _Link(stream(seed, "network", host)) for host in hosts}

    def begin(self, fault: LossyNetwork | Partition) -> None:
        """Begin a fault, which ends after its time."""
        for host in self._links if not fault.host else (fault.host,):
            link = self._links[host]
            if isinstance(fault, LossyNetwork):
                link.lossy.append(fault)
            else:
                link.partitions.append(fault)
            ends = partial(link.end, fault)
            self._agenda.after(int(fault.for_seconds * SECOND), None, ends)

    def clear(self) -> None:
        """End all faults."""
        for link in self._links.values():
            link.lossy.clear()
            link.partitions.clear()

    def call(
        self,
        hostname: str,
        life: NodeLifetime,
        request: Request,
        timeout: int,
        answered: Callable[[Answer], None],
        failed: Callable[[Failure], None],
    ) -> None:
        """Sign and send `request`; exactly one of `answered` and `failed` is called, unless the caller dies."""

        def noted(answer: Answer) -> None:
            self.answered_at[hostname] = self._agenda.now
            answered(answer)

        pending = _Pending(life, noted, failed)
        self._agenda.after(timeout, pending, pending.fail, TransportFailed("no answer in time"))
        back = partial(self._send, hostname, Direction.FROM_CONTROL_PLANE)
        call = Call(
            self._sign(hostname, request),
            lambda answer: back(partial(pending.answer, answer)),
            lambda error: back(partial(pending.fail, error)),
        )
        self._send(hostname, Direction.TO_CONTROL_PLANE, partial(self._deliver, call))

    def _send(self, hostname: str, direction: Direction, arrive: Callable[[], None]) -> None:
        link = self._links[hostname]
        if self._is_cut_off(hostname):
            self.lost += 1
            return
        if any(each.direction in (direction, Direction.BOTH) for each in link.partitions):
            self.lost += 1
            return
        delay = link.rng.randint(*LATENCY)
        for lossy in link.lossy:
            if link.rng.random() < lossy.lost:
                self.lost += 1
                return
            delay += int(link.rng.random() ** 3 * lossy.late_seconds * SECOND)
            if link.rng.random() < lossy.repeated:
                self.repeated += 1
                again = delay + int(link.rng.random() * lossy.late_seconds * SECOND)
                self._agenda.after(again, None, arrive)
        self._agenda.after(delay, None, arrive)


class _Pending(NodeLifetime):
    """A caller that waits: it is answered once, or fails once, or has died."""

    __slots__ = ("_answered", "_caller", "_failed")

    def __init__(
        self,
        caller: NodeLifetime,
        answered: Callable[[Answer], None],
        failed: Callable[[Failure], None],
    ) -> None:
        super().__init__()
        self._caller = caller
        self._answered = answered
        self._failed = failed

    def answer(self, answer: Answer) -> None:
        if self._ends():
            self._answered(answer)

    def fail(self, error: Failure) -> None:
        if self._ends():
            self._failed(error)

    def _ends(self) -> bool:
        if self.is_over or self._caller.is_over:
            return False
        self.is_over = True
        return True
