"""What an agent is given: how it is to behave, and what it stands on. Embedders start here."""

import random
from collections.abc import Callable

from attrs import frozen

from nixfleet_agent.activation.activator import Activator
from nixfleet_agent.engine.engine import FAILURE_THRESHOLD_DEFAULT
from nixfleet_agent.journal.journal import Journal
from nixfleet_agent.network.manifest_cache import ManifestCache, NoManifestCache
from nixfleet_agent.probes.evidence import EvidenceReader
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.transport import Transport
from nixfleet_state_machine.host.effect import EmitMetric


@frozen
class AgentSettings:
    """How one host's agent behaves. Times are of the agent's clock, but for network waits.

    failure_threshold_seconds: how long an enforce probe fails before the host is Failed.
    freshness_window_minutes: how old a manifest may be. probe_interval_seconds_min: the floor for
    every probe's own interval. switch_grace_seconds: how long an agent that is told to stop waits for a switch
    under way; what is not over by then is taken up again by the next start.
    """

    hostname: str
    failure_threshold_seconds: float = FAILURE_THRESHOLD_DEFAULT.total_seconds()
    freshness_window_minutes: int = 180
    tick_seconds: float = 5.0
    heartbeat_seconds: float = 60.0
    poll_wait_seconds: float = 60.0
    probe_interval_seconds_min: float = 5.0
    switch_grace_seconds: float = 10.0


@frozen
class AgentPorts:
    """What an agent stands on: embedders put their own behind any of these.

    chance: from 0 up to 1, for waits that are not to be in step with other hosts'. evidence: without it, evidence
    probes fail.
    """

    journal: Journal
    transport: Transport
    activator: Activator
    clock: Clock
    trust: TrustRoot
    record_metric: Callable[[EmitMetric], None] = lambda _: None
    manifests: ManifestCache = NoManifestCache()
    chance: Callable[[], float] = random.random
    evidence: EvidenceReader | None = None
