"""Tcp probes, against real sockets on loopback."""

import socket
from collections.abc import Iterator

import pytest

from nixfleet_agent.probes.tcp import run_tcp_probe
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.health_check import TcpProbe

pytestmark = pytest.mark.anyio


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def _port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


async def test_connecting_to_an_open_port_passes(listener: socket.socket) -> None:
    """A port that accepts the connection passes, without a reason."""
    outcome = await run_tcp_probe(TcpProbe("127.0.0.1", _port_of(listener)))

    assert outcome.status is ProbeStatus.PASS
    assert outcome.failure_reason is None


async def test_connecting_to_a_closed_port_fails_and_names_it(listener: socket.socket) -> None:
    """A port where nobody listens fails, with the address expected and the error found."""
    port = _port_of(listener)
    listener.close()

    outcome = await run_tcp_probe(TcpProbe("127.0.0.1", port))

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason is not None
    assert outcome.failure_reason.startswith(
        f"expected a connection to 127.0.0.1:{port} within 3 s, found "
    )
    assert "ConnectionRefusedError" in outcome.failure_reason


async def test_connecting_to_a_name_with_no_open_port_names_what_each_address_said(
    listener: socket.socket,
) -> None:
    """When every address of a host refuses, the reason is theirs, not a summary."""
    port = _port_of(listener)
    listener.close()

    outcome = await run_tcp_probe(TcpProbe("localhost", port))

    assert outcome.failure_reason is not None
    assert "ConnectionRefusedError" in outcome.failure_reason


async def test_connecting_to_an_unknown_host_fails_and_names_it() -> None:
    """A host that has no address fails, by name."""
    outcome = await run_tcp_probe(TcpProbe("no-such-host.invalid", 80))

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason is not None
    assert "no-such-host.invalid:80" in outcome.failure_reason


async def test_connecting_takes_longer_than_the_limit_fails(listener: socket.socket) -> None:
    """A connection that is not there in time fails, with the limit."""
    outcome = await run_tcp_probe(TcpProbe("127.0.0.1", _port_of(listener), connect_timeout_secs=0))

    assert outcome.failure_reason is not None
    assert outcome.failure_reason.endswith("within 0 s, found no answer")
