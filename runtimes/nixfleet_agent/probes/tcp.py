"""Runs tcp probes: a connection that is accepted in time passes. Nothing is sent or read."""

import anyio

from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, described, failed
from nixfleet_proto.health_check import TcpProbe


async def run_tcp_probe(check: TcpProbe) -> ProbeOutcome:
    """Connect to the check's host and port, and hang up."""
    expected = f"a connection to {check.host}:{check.port} within {check.connect_timeout_secs} s"
    try:
        with anyio.fail_after(check.connect_timeout_secs):
            stream = await anyio.connect_tcp(check.host, check.port)
            await stream.aclose()
    except TimeoutError:
        return failed(expected, "no answer")
    except OSError as error:
        return failed(expected, described(error))
    return PASSED
