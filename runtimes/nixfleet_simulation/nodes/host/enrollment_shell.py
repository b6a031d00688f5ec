"""Carries out the steps of an agent's enrollment worker, which is the production code, in virtual time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, assert_never

from nixfleet_agent.network.enrollment import NOT_KNOWN
from nixfleet_agent.workers.enrollment import (
    AskWhetherKnown,
    Enroll,
    EnrollmentStep,
    EnrollmentWorker,
    ReadToken,
)
from nixfleet_agent.workers.steps import Wait
from nixfleet_runtime.transport import TransportFailed
from nixfleet_simulation.nodes.agenda import Agenda, NodeLifetime
from nixfleet_simulation.nodes.host.identity import HostIdentity
from nixfleet_simulation.nodes.host.tasks import Task, begin_wait
from nixfleet_simulation.nodes.network import Answer, Failure
from nixfleet_simulation.nodes.signed_requests import AskDispatch, Request

TOKEN_FILE: Final = Path("/token.json")
"""Where the worker is told to look. No file is opened: a host's token is in its `HostIdentity`."""

CallControlPlane: TypeAlias = Callable[
    [Request, Callable[[Answer], None], Callable[[Failure], None]], None
]


class SimulatedEnrollment:
    """Runs one enrollment worker. call: sends a request and brings back its answer or its failure."""

    def __init__(
        self,
        agenda: Agenda,
        lifetime: NodeLifetime,
        identity: HostIdentity,
        call: CallControlPlane,
    ) -> None:
        self._agenda = agenda
        self._lifetime = lifetime
        self._identity = identity
        self._call = call
        self._task: Task[EnrollmentStep] | None = None

    def start(self, worker: EnrollmentWorker) -> None:
        """Run `worker`, as long as the process lives."""
        self._task = Task(worker.stay_known(), self._lifetime, self._carry_out)
        self._task.begin()

    def close(self) -> None:
        """End the worker with its process."""
        if self._task is not None:
            self._task.work.close()

    def _carry_out(self, task: Task[EnrollmentStep], step: EnrollmentStep) -> None:
        match step:
            case Wait():
                begin_wait(self._agenda, task, step)
            case AskWhetherKnown():
                self._call(AskDispatch(0), lambda _: self._known(task), partial(self._asked, task))
            case ReadToken():
                self._identity.is_enrolling = True
                task.answer(self._identity.token)
            case Enroll():
                self._call(step.request, lambda _: self._enrolled(task), task.fail)
            case _:
                assert_never(step)

    def _known(self, task: Task[EnrollmentStep]) -> None:
        self._identity.is_enrolling = False
        task.answer(True)

    def _enrolled(self, task: Task[EnrollmentStep]) -> None:
        self._identity.is_enrolling = False
        task.answer(None)

    def _asked(self, task: Task[EnrollmentStep], failure: Failure) -> None:
        """As `workers.enrollment.is_known`."""
        if isinstance(failure, TransportFailed) and failure.kind in NOT_KNOWN:
            task.answer(False)
        else:
            task.fail(failure)
