"""An agent's settings, and the ports it runs on. Embedders start here."""

import random
from collections.abc import Callable

from attrs import frozen

from nixfleet_agent.activation.activator import Activator
from nixfleet_agent.engine.locks import ASK_AGAIN_DEFAULT
from nixfleet_agent.engine.options import FAILURE_THRESHOLD_DEFAULT
from nixfleet_agent.journal.journal import Journal
from nixfleet_agent.locks.lock import DeviceLock
from nixfleet_agent.network.manifest_cache import ManifestCache, NoManifestCache
from nixfleet_agent.probes.evidence import EvidenceReader
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import WRITE_SECONDS_MAX
from nixfleet_runtime.transport import Transport
from nixfleet_state_machine.host.effect import EmitMetric


@frozen
class AgentSettings:
    """How one host's agent behaves. Times are of the agent's clock, except network waits.

    failure_threshold_seconds: how long an enforce probe must fail before the host is Failed.
    linger_seconds: how long facts that no rollout waits for stay, so that others are sent with them; 0: not at all.
    freshness_window_minutes: this host's limit on the window that manifests declare. probe_interval_seconds_min: the
    lower limit of every probe's interval. switch_grace_seconds: how long a stopping agent waits for a switch under way;
    a switch that takes longer is finished by the next start. ask_again_seconds: after what time the lock is asked
    again that says "not now" without an end. write_seconds_max: how long a write of the journal may take in real time.
    """

    hostname: str
    failure_threshold_seconds: float = FAILURE_THRESHOLD_DEFAULT.total_seconds()
    freshness_window_minutes: int | None = None
    tick_seconds: float = 5.0
    linger_seconds: float = 0.05
    heartbeat_seconds: float = 60.0
    poll_wait_seconds: float = 60.0
    probe_interval_seconds_min: float = 5.0
    switch_grace_seconds: float = 10.0
    ask_again_seconds: float = ASK_AGAIN_DEFAULT.total_seconds()
    write_seconds_max: float = WRITE_SECONDS_MAX


@frozen
class AgentPorts:
    """The ports an agent runs on. Embedders may implement any of them.

    chance: returns a random number from 0 up to 1, so that hosts do not retry at the same moments. evidence: without
    it, evidence probes fail. lock: asked before each switch; `None`: nothing is asked. on_batch: called by the mutator
    after each batch, with its length.
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
    lock: DeviceLock | None = None
    on_batch: Callable[[int], None] = lambda _: None
