"""Which runner a check goes to, and that whatever goes wrong in one is a failure with a reason."""

import socket
from pathlib import Path

import pytest

from nixfleet_agent.probes.run import ClosureProbeRunner, run_probe
from nixfleet_agent.probes.runner import ProbeRunner, failed
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.health_check import (
    FAILURE_REASON_LENGTH_MAX,
    EvidenceProbe,
    ExecProbe,
    HealthCheck,
    HttpProbe,
    TcpProbe,
)

pytestmark = pytest.mark.anyio


async def test_running_an_evidence_probe_without_a_key_fails() -> None:
    """Evidence that nothing can check fails; it is never taken on trust."""
    outcome = await run_probe(EvidenceProbe("cis", "/var/lib/evidence/cis.json"))

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason == (
        "expected the host's key, to check evidence for cis with, found none"
    )


async def test_running_each_other_kind_reaches_its_runner(tmp_path: Path) -> None:
    """A tcp, an http and an exec check are each run as what they are."""
    runner: ProbeRunner = ClosureProbeRunner(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        assert (await runner.run(TcpProbe("127.0.0.1", port))).status is ProbeStatus.PASS

    refused = await runner.run(HttpProbe(f"http://127.0.0.1:{port}/"))
    missing = await runner.run(ExecProbe(("bin/check",)))

    assert refused.failure_reason is not None
    assert refused.failure_reason.endswith(f"from http://127.0.0.1:{port}/")
    assert missing.failure_reason is not None
    assert f"{tmp_path}/bin/check" in missing.failure_reason


@pytest.mark.parametrize(
    "check",
    [
        TcpProbe("127.0.0.1", 65536),
        TcpProbe("a" * 64 + ".example", 80),
        ExecProbe(()),
    ],
    ids=["port out of range", "host name too long", "no command"],
)
async def test_running_what_no_library_takes_fails_and_names_the_error(
    check: HealthCheck,
) -> None:
    """A check that makes a library raise fails with what it raised; it never raises itself."""
    outcome = await run_probe(check)

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason is not None
    assert "expected" in outcome.failure_reason
    assert "found" in outcome.failure_reason


def test_reason_longer_than_the_limit_is_cut() -> None:
    """A reason has at most 512 characters, from its beginning."""
    outcome = failed("status 200", "x" * 1000)

    assert outcome.failure_reason is not None
    assert outcome.failure_reason.startswith("expected status 200, found xxx")
    assert len(outcome.failure_reason) == FAILURE_REASON_LENGTH_MAX
