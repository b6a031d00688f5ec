"""Agents of a site in the test's own process: their engine, journal, activator and probes are real, and so is HTTP."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypeAlias

import anyio

from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_agent.network.http_transport import connected
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.service import running
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.kernel.clock import Clock, SystemClock
from nixfleet_runtime.transport import Transport
from tests.faults.site import Host, Site
from tests.faults.witness import Witness, WitnessedTransport

Connect: TypeAlias = Callable[[str, SigningKey, Clock], AbstractAsyncContextManager[Transport]]
"""Opens the way of a host to its control plane: its name, its key, its clock."""


@asynccontextmanager
async def agents_of(
    site: Site,
    witness: Witness,
    *,
    url: str | None = None,
    clock: Clock | None = None,
    probe_seconds: float = 0.05,
    connect: Connect | None = None,
) -> AsyncIterator[None]:
    """Run the agent of every host while the context is open; `witness` sees what they are told.

    url: where they find the control plane, if not where it is. clock: theirs, also for signing. connect: opens another
    way to the control plane than HTTP.
    """
    over_http: Connect = partial(connected, url or site.url)
    async with AsyncExitStack() as stack:
        for host in site.hosts:
            await stack.enter_async_context(
                _agent_of(
                    site, host, witness, connect or over_http, clock or SystemClock(), probe_seconds
                )
            )
        yield


@asynccontextmanager
async def _agent_of(
    site: Site,
    host: Host,
    witness: Witness,
    connect: Connect,
    clock: Clock,
    probe_seconds: float,
) -> AsyncIterator[None]:
    journal = ThreadedJournal(SqliteJournal(host.journal))
    try:
        async with connect(host.hostname, host.key, clock) as transport:
            ports = AgentPorts(
                journal, WitnessedTransport(transport, witness), host.activator, clock, site.trust
            )
            settings = AgentSettings(
                host.hostname,
                tick_seconds=0.1,
                heartbeat_seconds=0.5,
                probe_interval_seconds_min=probe_seconds,
            )
            async with running(settings, ports):
                yield
    finally:
        with anyio.CancelScope(shield=True):
            await journal.close()
