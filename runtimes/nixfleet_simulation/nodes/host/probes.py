"""Health checks and their tickers, tied to a rollout: what `workers.probes` does, in virtual time."""

from typing import TypeAlias, assert_never

from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    ChecksUnreadable,
    LoadChecks,
    ProbeRan,
    Reply,
    StartProbes,
    StopProbes,
)
from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_simulation.nodes.agenda import SECOND, NodeLifetime
from nixfleet_simulation.nodes.host.shell import WorkerShell, ignore

Order: TypeAlias = LoadChecks | StartProbes | StopProbes

RUN_SECONDS = (0.01, 0.8)


def checks_of(interval_seconds: int) -> HealthCheckSet:
    """Return the checks that every closure has: one that decides, one that is only watched, one that is off."""
    command = ("bin/alive",)
    return HealthCheckSet(
        {
            "alive": ExecProbe(command, interval_seconds=interval_seconds),
            "quick": ExecProbe(
                command, interval_seconds=interval_seconds * 2, mode=ProbeMode.OBSERVE
            ),
            "off": ExecProbe(command, mode=ProbeMode.DISABLED),
        }
    )


class ProbeWorker:
    """The probes of all open rollouts."""

    def __init__(self, shell: WorkerShell) -> None:
        self._shell = shell
        self._checks = checks_of(shell.cadence.probe_interval)
        self._runs: dict[RolloutId, NodeLifetime] = {}

    def order(self, order: Order) -> None:
        """Do this."""
        match order:
            case LoadChecks():
                self._shell.after(0.01, self._load, order)
            case StartProbes():
                self._stop(order.rollout_id)
                self._start(order)
            case StopProbes():
                self._stop(order.rollout_id)
            case _:
                assert_never(order)

    def die(self) -> None:
        """The process ends."""
        for rollout_id in tuple(self._runs):
            self._stop(rollout_id)

    def _load(self, order: LoadChecks) -> None:
        if self._shell.machine.checks_can_be_read(order.closure):
            self._shell.insist(ChecksLoaded(order.rollout_id, self._checks), ignore)
        else:
            problem = "health-checks.json: $: expected an object, found a list"
            self._shell.insist(ChecksUnreadable(order.rollout_id, problem), ignore)

    def _start(self, order: StartProbes) -> None:
        run = self._runs[order.rollout_id] = NodeLifetime()
        for name, check in order.checks.items():
            if check.mode is not ProbeMode.DISABLED:
                self._run(run, order.rollout_id, name, check.interval_seconds)

    def _stop(self, rollout_id: RolloutId) -> None:
        run = self._runs.pop(rollout_id, None)
        if run is not None:
            run.is_over = True

    def _run(
        self, run: NodeLifetime, rollout_id: RolloutId, name: str, interval_seconds: int
    ) -> None:
        lasts = int(self._shell.chance.uniform(*RUN_SECONDS) * SECOND)
        self._shell.agenda.after(lasts, run, self._ran, run, rollout_id, name, interval_seconds)

    def _ran(
        self, run: NodeLifetime, rollout_id: RolloutId, name: str, interval_seconds: int
    ) -> None:
        outcome = self._shell.machine.probe()

        def again(_: Reply | None) -> None:
            self._shell.agenda.after(
                interval_seconds * SECOND, run, self._run, run, rollout_id, name, interval_seconds
            )

        if outcome is None:
            # It hangs, and is given up; nothing is reported.
            self._shell.agenda.after(
                interval_seconds * SECOND, run, self._run, run, rollout_id, name, interval_seconds
            )
        else:
            self._shell.try_once(ProbeRan(rollout_id, name, outcome), again)
