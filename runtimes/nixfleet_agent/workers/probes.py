"""Reads a closure's health checks and runs them, each at its interval, until stopped. Sans I/O.

The probes of a rollout are one group of workers: stopping it also ends their running commands.
"""

from collections import deque
from collections.abc import Generator
from functools import partial
from typing import TypeAlias, assert_never

from nixfleet_agent.messages.inputs import HomeLooked, LoadChecks, ProbeRan, StartProbes, StopProbes
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.steps import (
    AgentStep,
    ReadHealthChecks,
    RunProbe,
    Start,
    StopGroup,
    Wait,
    Wakeup,
    Work,
)
from nixfleet_proto.agent_event import ProbeMode, ProbeStatus
from nixfleet_proto.health_check import HealthCheck, HomeProbe, TcpProbe, address_of
from nixfleet_proto.ids import RolloutId

Order: TypeAlias = LoadChecks | StartProbes | StopProbes


class ProbeWorker:
    """The probes of all open rollouts."""

    def __init__(self, interval_seconds_min: float, post: RetryingPost, contact: Contact) -> None:
        self._contact = contact
        self._interval_seconds_min = interval_seconds_min
        self._post = post
        # Unbounded: one batch of inputs may order any number at once, and none may be lost.
        self._orders = deque[Order]()
        self._ordered = Wakeup()

    def order(self, order: Order) -> None:
        """Carry out `order` after the orders before it."""
        self._orders.append(order)
        self._ordered.set()

    def run(self) -> Work:
        """Carry out the orders, and wait for more."""
        while True:
            self._ordered.clear()
            while self._orders:
                yield from self._follow(self._orders.popleft())
            yield from Wait(None, self._ordered)

    def _follow(self, order: Order) -> Work:
        match order:
            case LoadChecks():
                yield from Start("reading health checks", partial(self._load, order))
            case StartProbes():
                yield from StopGroup(order.rollout_id)
                for name, check in order.checks.items():
                    if check.mode is not ProbeMode.DISABLED:
                        begin = partial(self._watch, order.rollout_id, name, check)
                        yield from Start(f"probe {name}", begin, order.rollout_id)
            case StopProbes():
                yield from StopGroup(order.rollout_id)
            case _:
                assert_never(order)

    def _load(self, order: LoadChecks) -> Work:
        checks = yield from ReadHealthChecks(order.rollout_id, order.closure)
        yield from self._post.insist(checks)

    def _result(
        self, rollout_id: RolloutId, name: str, check: HealthCheck
    ) -> Generator[AgentStep, object, ProbeRan | HomeLooked]:
        if isinstance(check, HomeProbe):
            return (yield from self._look(rollout_id, name, check))
        return ProbeRan(rollout_id, name, (yield from RunProbe(check)))

    def _look(
        self, rollout_id: RolloutId, name: str, check: HomeProbe
    ) -> Generator[AgentStep, object, HomeLooked]:
        second = None if check.second_address is None else address_of(check.second_address)
        second_answers = None
        if second is not None:
            connection = TcpProbe(*second, connect_timeout_secs=check.connect_timeout_secs)
            outcome = yield from RunProbe(connection)
            second_answers = outcome.status is ProbeStatus.PASS
        return HomeLooked(rollout_id, name, self._contact.answered_at, second_answers)

    def _watch(self, rollout_id: RolloutId, name: str, check: HealthCheck) -> Work:
        while True:
            input = yield from self._result(rollout_id, name, check)
            # Not insisted on: the next run brings another result.
            reply = yield from self._post.try_once(input)
            if check.run_once and reply is not None:
                return
            yield from Wait(max(check.interval_seconds, self._interval_seconds_min))
