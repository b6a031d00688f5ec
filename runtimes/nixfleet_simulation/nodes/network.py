"""The network between the hosts and the control plane: it delays, loses, repeats and reorders messages.

A call is a request, then an answer. The caller learns of a fault only by a missing answer or a broken connection.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from attrs import frozen

from nixfleet_control_plane.messages.inputs import DispatchAnswer, ManifestAnswer
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply, TransportFailed
from nixfleet_simulation.nodes.agenda import MINUTE, SECOND, Agenda, NodeLifetime
from nixfleet_simulation.scenario.acts import Direction, LossyNetwork, Partition
from nixfleet_simulation.scenario.randomness import Random, Seed, stream

LATENCY = (500, 30_000)
CLOCKS_APART_MAX = MINUTE
"""A request whose signature is older or younger than this is refused.

Source: docs/spec/trust.md, Request signatures.
"""


@frozen
class SendEvents:
    envelopes: tuple[AgentEventEnvelope, ...]


@frozen
class AskDispatch:
    """wait: microseconds that the poll may last."""

    wait: int


@frozen
class FetchManifest:
    rollout_id: str


Request: TypeAlias = SendEvents | AskDispatch | FetchManifest | Heartbeat
Answer: TypeAlias = EventsOutcome | DispatchAnswer | ManifestAnswer | HeartbeatReply


class Call:
    """One request of one host, and the way back for its answer."""

    __slots__ = ("_answer", "_fail", "hostname", "request")

    def __init__(
        self,
        hostname: str,
        request: Request,
        answer: Callable[[Answer], None],
        fail: Callable[[TransportFailed], None],
    ) -> None:
        self.hostname = hostname
        self.request = request
        self._answer = answer
        self._fail = fail

    def answer(self, answer: Answer) -> None:
        """Send `answer` back."""
        self._answer(answer)

    def answered_through(self, change: Callable[[Answer], Answer]) -> "Call":
        """Return the same call, whose answers are changed on their way."""
        return Call(self.hostname, self.request, lambda a: self._answer(change(a)), self._fail)

    def fail(self, problem: str, retry_after_seconds: float | None = None) -> None:
        """Send back a failure."""
        self._fail(TransportFailed(problem, retry_after_seconds))


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
    """All links. deliver: hands a request to the control plane. apart: how far two clocks are from each other."""

    def __init__(
        self,
        agenda: Agenda,
        seed: Seed,
        hosts: tuple[str, ...],
        deliver: Callable[[Call], None],
        apart: Callable[[str], int],
    ) -> None:
        self.lost = 0
        self.repeated = 0
        self._agenda = agenda
        self._deliver = deliver
        self._apart = apart
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
        failed: Callable[[TransportFailed], None],
    ) -> None:
        """Send `request`; exactly one of `answered` and `failed` is called, unless the caller dies."""
        pending = _Pending(life, answered, failed)
        self._agenda.after(timeout, pending, pending.fail, TransportFailed("no answer in time"))
        back = partial(self._send, hostname, Direction.FROM_CONTROL_PLANE)
        call = Call(
            hostname,
            request,
            lambda answer: back(partial(pending.answer, answer)),
            lambda error: back(partial(pending.fail, error)),
        )
        self._send(hostname, Direction.TO_CONTROL_PLANE, partial(self._arrive, call))

    def _arrive(self, call: Call) -> None:
        if self._apart(call.hostname) > CLOCKS_APART_MAX:
            call.fail("401: the request's signature is not of now")
        else:
            self._deliver(call)

    def _send(self, hostname: str, direction: Direction, arrive: Callable[[], None]) -> None:
        link = self._links[hostname]
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
        failed: Callable[[TransportFailed], None],
    ) -> None:
        super().__init__()
        self._caller = caller
        self._answered = answered
        self._failed = failed

    def answer(self, answer: Answer) -> None:
        if self._ends():
            self._answered(answer)

    def fail(self, error: TransportFailed) -> None:
        if self._ends():
            self._failed(error)

    def _ends(self) -> bool:
        if self.is_over or self._caller.is_over:
            return False
        self.is_over = True
        return True
