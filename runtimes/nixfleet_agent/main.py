"""The agent as a process: builds its parts from the configuration, and runs until it is stopped by a signal.

The composition root. No policy, and nothing that a test of a worker or of the engine would need.
"""

import logging
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    nullcontext,
)
from functools import partial
from pathlib import Path
from typing import assert_never

import anyio
from anyio.abc import TaskStatus

from nixfleet_agent.activation.activator import Activator
from nixfleet_agent.activation.command import CommandActivator
from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_agent.activation.nixos.activator import NixosActivator
from nixfleet_agent.activation.switch_unit import SwitchUnit
from nixfleet_agent.config import (
    ActivatorConfig,
    AgentConfig,
    ControlPlaneAddress,
    DirectoryActivatorConfig,
    JournalConfig,
    NixosActivatorConfig,
)
from nixfleet_agent.config_command import CommandActivatorConfig
from nixfleet_agent.config_plugins import PluggedActivator, PluggedJournal, PluggedTransport
from nixfleet_agent.journal.journal import Journal, SqliteJournal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_agent.network.enrollment import OwnKey, own_key
from nixfleet_agent.network.http_transport import HttpTransport, connected
from nixfleet_agent.network.manifest_cache import DirectoryManifestCache
from nixfleet_agent.ports import AgentPorts
from nixfleet_agent.probes.evidence import EvidenceReader
from nixfleet_agent.service import AgentService, service_of
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.enrollment import EnrollmentWorker
from nixfleet_agent.workers.enrollment_shell import EnrollmentShell
from nixfleet_agent.workers.shell import run_worker, supervised
from nixfleet_proto.codec import decode_trust_root
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.http.client import tls_context
from nixfleet_runtime.kernel.clock import Clock, SystemClock
from nixfleet_runtime.process.command import ProcessRunner
from nixfleet_runtime.process.service_manager import Watchdog, notify
from nixfleet_runtime.process.trust_file import TrustFile
from nixfleet_runtime.storage.instance_lock import only_process_on
from nixfleet_runtime.storage.opening import opening_database
from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_runtime.transport import Transport

_log = logging.getLogger(__name__)


async def run_agent(config: AgentConfig, clock: Clock) -> None:
    """Run the agent of `config` until SIGTERM or SIGINT, then stop it in order.

    clock: the fleet's. Requests are signed with the system clock's time, and network time-outs use that clock too.

    Raises: PluginUnusable, WritingEnded, DatabaseInUse, UnusableDatabase, NoRunningClosure, DecodeError (of the
    trust file or the journal),
    InsecureKeyFile, MalformedKeyFile, OSError, sqlite3.Error.
    """
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(_opened_journal(config.journal))
        own = own_key(config.identity.key_file)
        if own.is_new:
            _log.info("generated the host's key; its fingerprint is %s", own.fingerprint)
        trust = load_trust(config.trust.file)
        transport = await stack.enter_async_context(_connected(config, own.key))
        watchdog = Watchdog()
        ports = AgentPorts(
            journal,
            transport,
            activator_of(config.activator, clock),
            clock,
            trust,
            manifests=DirectoryManifestCache(config.manifests.cache_directory),
            evidence=EvidenceReader(own.key.public_key, clock),
            lock=config.lock.program,
            on_batch=watchdog.beat,
        )
        with _using_journal(config.journal):
            service = await service_of(config.settings, ports)
        watchdog.status = service.status_line
        trust_file = TrustFile(config.trust.file, trust, service.use_trust)
        enroll = _enrollment(config, own, service, transport, clock)
        await _run_until_signalled(config, service, enroll, trust_file)
    _log.info("the agent has ended; its journal is complete")


@asynccontextmanager
async def _opened_journal(config: JournalConfig | PluggedJournal) -> AsyncIterator[Journal]:
    if isinstance(config, PluggedJournal):
        async with config.opened() as plugged:
            yield plugged
        return
    with ExitStack() as held:
        with _using_journal(config):
            held.enter_context(only_process_on(config.path))
            journal = ThreadedJournal(SqliteJournal(config.path))
        try:
            yield journal
        finally:
            with anyio.CancelScope(shield=True):
                await journal.close()


def _using_journal(config: JournalConfig | PluggedJournal) -> AbstractContextManager[None]:
    if isinstance(config, PluggedJournal):
        return nullcontext()
    # A backup would set the journal back, and its host would contradict itself.
    damaged = "move it away: without it, the agent takes its state over from the control plane"
    return opening_database(config.path, "journal.path", "an agent's journal", damaged)


def _connected(config: AgentConfig, key: SigningKey) -> AbstractAsyncContextManager[Transport]:
    if isinstance(config.control_plane, PluggedTransport):
        return config.control_plane.connected(config.hostname, key, SystemClock())
    return way_to_control_plane(config.hostname, config.control_plane, key, SystemClock())


def _enrollment(
    config: AgentConfig, own: OwnKey, service: AgentService, transport: Transport, clock: Clock
) -> Callable[[], Coroutine[None, None, None]]:
    """Return what keeps the host enrolled. A transport of another kind does that itself, if it must."""
    if not isinstance(transport, HttpTransport):
        return anyio.sleep_forever
    enrollment = EnrollmentWorker(
        config.hostname,
        own,
        config.identity.bootstrap_token_file,
        service.trust,
        clock.now,
        service.workers.backoff_for_control_plane(),
    )
    transport.when_not_known(enrollment.note_not_known)
    enrolling = supervised("the enrollment", enrollment.stay_known, Backoff())
    return partial(run_worker, enrolling, EnrollmentShell(transport, clock).carry_out)


def load_trust(file: Path) -> TrustRoot:
    """Return the trusted keys in `file`. Raises: DecodeError, OSError."""
    return decode_trust_root(read_regular_file(file))


@asynccontextmanager
async def way_to_control_plane(
    hostname: str, address: ControlPlaneAddress, key: SigningKey, clock: Clock
) -> AsyncIterator[HttpTransport]:
    """Yield a transport to the control plane at `address`. Raises: OSError (of the certificate file)."""
    tls = tls_context(address.ca_certificate_file)
    async with connected(address.url, hostname, key, clock, tls=tls) as transport:
        yield transport


def activator_of(config: ActivatorConfig, clock: Clock) -> Activator:
    """Return the activator that `config` selects."""
    match config:
        case DirectoryActivatorConfig():
            return DirectoryActivator(
                config.store,
                config.profile,
                config.switching_from,
                config.switch_timeout_seconds,
            )
        case NixosActivatorConfig():
            return NixosActivator(
                ProcessRunner(),
                clock,
                config.store,
                config.profile,
                config.current_system,
                config.switch_timeout_seconds,
                config.poll_interval_seconds,
                config.realise_timeout_seconds,
                config.command_timeout_seconds,
                attempt_file=config.attempt_file,
                roots=config.roots,
                agent_unit=config.agent_unit,
                on_failed_units=config.on_failed_units,
                dead_man_seconds=config.dead_man_seconds,
                systemctl=_lasting("systemctl"),
                nix_env=_lasting("nix-env"),
            )
        case CommandActivatorConfig():
            return _command_activator(config, clock)
        case PluggedActivator():
            return config.made(clock)
        case _:
            assert_never(config)


def _command_activator(config: CommandActivatorConfig, clock: Clock) -> CommandActivator:
    runner = ProcessRunner()
    unit = SwitchUnit(
        runner,
        clock,
        config.agent_unit,
        _lasting("systemctl"),
        config.poll_interval_seconds,
        config.command_timeout_seconds,
    )
    return CommandActivator(
        runner,
        config.commands,
        config.files,
        config.attempt_file,
        None if config.within_agent else unit,
        config.switch_timeout_seconds,
        config.prepare_timeout_seconds,
        config.command_timeout_seconds,
    )


def _lasting(program: str) -> str:
    """Return a path to `program` that leads to it after a switch too, its name if it is not there."""
    found = shutil.which(program)
    return str(Path(found).parent.resolve() / program) if found else program


async def _run_until_signalled(
    config: AgentConfig,
    service: AgentService,
    enroll: Callable[[], Coroutine[None, None, None]],
    trust_file: TrustFile,
) -> None:
    async with anyio.create_task_group() as tasks:
        # Signals are handled before READY is sent to the service manager.
        await tasks.start(_stop_when_signalled, service, tasks.cancel_scope)
        tasks.start_soon(enroll)
        tasks.start_soon(trust_file.follow)
        _log.info("the agent of %s reports to %s", config.hostname, config.control_plane.where)
        notify("READY=1")
        await service.run()
        tasks.cancel_scope.cancel()


async def _stop_when_signalled(
    service: AgentService,
    everything: anyio.CancelScope,
    *,
    task_status: TaskStatus[None],
) -> None:
    """Stop the agent in order at the first signal, and at once at the second; the journal is consistent either way."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if service.is_stopping:
                _log.warning("%s again: stopping at once", number.name)
                everything.cancel()
                return
            _log.info("%s: stopping", number.name)
            service.stop()
