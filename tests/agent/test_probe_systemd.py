"""Systemd probes, with a program in the place of systemctl."""

from pathlib import Path

import pytest

from nixfleet_agent.probes.run import run_probe
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.health_check import SystemdProbe

pytestmark = pytest.mark.anyio


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program that is found as systemctl; its text is written by each test."""
    program = tmp_path / "systemctl"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return program


def write(program: Path, count: str, listing: str = "") -> None:
    program.write_text(
        f'#!/bin/sh\ncase "$1" in show) {count} ;; list-units) printf "%s\\n" {listing} ;; esac\n'
    )
    program.chmod(0o755)


@pytest.mark.parametrize(("count", "limit"), [(0, 0), (2, 2), (2, 3)])
async def test_as_many_failed_units_as_are_allowed_pass(
    systemctl: Path, count: int, limit: int
) -> None:
    """The limit itself passes."""
    write(systemctl, f"echo {count}")

    assert (await run_probe(SystemdProbe(limit))).status is ProbeStatus.PASS


async def test_more_failed_units_fail_and_are_named(systemctl: Path) -> None:
    """The reason has the limit, the number and the units."""
    listing = '"nginx.service loaded failed failed Web" "backup.timer loaded failed failed Nightly"'
    write(systemctl, "echo 2", listing)

    outcome = await run_probe(SystemdProbe(1))

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason == (
        "expected at most 1 failed units, found 2: nginx.service, backup.timer"
    )


async def test_a_count_that_cannot_be_had_fails(systemctl: Path) -> None:
    """A systemctl that fails, says no number, or is not there is a failure: nothing is assumed."""
    write(systemctl, "echo no bus >&2; exit 1")
    refused = await run_probe(SystemdProbe())
    write(systemctl, "echo many")
    wordy = await run_probe(SystemdProbe())
    write(systemctl, "sleep 1000")
    slow = await run_probe(SystemdProbe(timeout_secs=1))

    expected = "expected systemd to count failed units within"
    assert refused.failure_reason == f"{expected} 10 s, found 1 from systemctl: no bus"
    assert wordy.failure_reason == f"{expected} 10 s, found 0 from systemctl: many"
    assert slow.failure_reason == f"{expected} 1 s, found systemctl still running"


async def test_a_host_without_systemd_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is no systemctl, the probe cannot run, so it fails."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert (await run_probe(SystemdProbe())).status is ProbeStatus.FAIL
