"""One agent's workers, and how they depend on each other. Sans I/O: the agent's service and the simulation run them."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias, assert_never

from nixfleet_agent.messages.inputs import (
    Booted,
    CarryOut,
    KeepManifestsOf,
    LoadChecks,
    ShowRefusal,
    StartProbes,
    StopProbes,
    WakeSender,
    WithdrawIntent,
)
from nixfleet_agent.ports import AgentSettings
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.dispatches import DispatchWorker
from nixfleet_agent.workers.freshness import FreshnessWatch
from nixfleet_agent.workers.heartbeats import HeartbeatWorker
from nixfleet_agent.workers.intents import IntentWorker
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.probes import ProbeWorker
from nixfleet_agent.workers.refusals import Refusals
from nixfleet_agent.workers.sender import Sender
from nixfleet_agent.workers.steps import Start, Work
from nixfleet_agent.workers.ticks import TickWorker
from nixfleet_agent.workers.warrants import WarrantIntake
from nixfleet_proto.trust import TrustRoot

WorkerAction: TypeAlias = (
    WakeSender
    | CarryOut
    | WithdrawIntent
    | LoadChecks
    | StartProbes
    | StopProbes
    | KeepManifestsOf
    | ShowRefusal
)


class Workers:
    """The workers of one run of an agent.

    trust: returns the keys that are trusted now. log_of: returns the logger of a module; the simulation's logs nothing.
    """

    def __init__(
        self,
        settings: AgentSettings,
        switch_method: str,
        now: Callable[[], datetime],
        trust: Callable[[], TrustRoot],
        chance: Callable[[], float],
        log_of: Callable[[str], logging.Logger] = logging.getLogger,
    ) -> None:
        self._chance = chance
        self._waiting_for_control_plane: list[Backoff] = []

        def log(module: str) -> logging.Logger:
            return log_of(f"nixfleet_agent.workers.{module}")

        self._post = RetryingPost(Backoff(chance), log("posting"))
        self._manifests = ManifestSource(
            settings.hostname, trust, now, settings.freshness_window_minutes, log("manifests")
        )
        self._refusals = refusals = Refusals(now)
        contact = Contact(now, log("contact"))
        self.intents = IntentWorker(
            switch_method,
            self._post,
            Backoff(chance),
            Backoff(chance),
            log("intents"),
            refusals,
            contact,
        )
        self._sender = Sender(
            settings.hostname,
            settings.linger_seconds,
            self._post,
            self.backoff_for_control_plane(),
            log("sender"),
            contact,
        )
        self._probes = ProbeWorker(settings.probe_interval_seconds_min, self._post, contact)
        self._dispatches = DispatchWorker(
            settings.poll_wait_seconds,
            now,
            self._manifests,
            self.intents.at_rest,
            self._post,
            self.backoff_for_control_plane(),
            log("dispatches"),
            refusals,
            contact,
        )
        self._heartbeats = HeartbeatWorker(
            settings.hostname,
            settings.heartbeat_seconds,
            self._manifests,
            self._post,
            self.backoff_for_control_plane(),
            log("heartbeats"),
            refusals,
            FreshnessWatch(
                self._manifests, now, settings.freshness_window_minutes, log("freshness")
            ),
            contact,
            self.intents.at_rest,
            WarrantIntake(trust, now, self._post, refusals, log("warrants")),
        )
        self._ticks = TickWorker(settings.tick_seconds, self.intents.at_rest, self._post)

    def backoff_for_control_plane(self) -> Backoff:
        """Return a wait between calls of the control plane; a success of one ends the waits of the others."""
        return Backoff(self._chance, self._waiting_for_control_plane)

    def boot(self, running: str) -> Work:
        """Start the workers, except that for intents, around the input that an agent has started on `running`."""
        yield from Start("the worker for probes", self._probes.run)
        yield from Start("the manifest cache", self._manifests.run)
        yield from self._post.insist(Booted(running))
        yield from Start("the sender", self._sender.run)
        yield from Start("the heartbeat", self._heartbeats.run)
        yield from Start("the poll for dispatches", self._dispatches.run)
        yield from Start("the tick", self._ticks.run)

    def carry_out(self, action: WorkerAction) -> None:
        """Hand `action` to the worker that carries it out."""
        match action:
            case WakeSender():
                self._sender.wake()
            case CarryOut():
                self.intents.add(action.intent)
            case WithdrawIntent():
                self.intents.withdraw(action.intent)
            case LoadChecks() | StartProbes() | StopProbes():
                self._probes.order(action)
            case KeepManifestsOf():
                self._manifests.keep_only(action.rollout_ids)
            case ShowRefusal():
                self._refusals.rollback_refused(action.rollout_id, action.reason)
            case _:
                assert_never(action)
