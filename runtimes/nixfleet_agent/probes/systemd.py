"""Runs systemd probes: at most so many units of the host have failed.

systemd counts them itself (`NFailedUnits`), so the end of a long list decides nothing; the list is read only to name
units in a failure. The program `systemctl` is looked up in PATH and gets the environment of an exec probe.
Source: docs/spec/declarations.md, Probe kinds.
"""

from typing import Final

from nixfleet_agent.probes.exec import probe_environment
from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, failed
from nixfleet_proto.health_check import SystemdProbe
from nixfleet_runtime.process.command import CommandOutcome, run_command

_COUNT: Final = ("systemctl", "show", "--property=NFailedUnits", "--value")
_LIST: Final = ("systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--full")


async def run_systemd_probe(check: SystemdProbe) -> ProbeOutcome:
    """Compare the number of failed units with the check's limit once."""
    counted = await _run(check, _COUNT)
    number = counted.stdout_tail.strip()
    if counted.exit_code != 0 or not (number.isascii() and number.isdigit()):
        return failed(f"systemd to count failed units within {check.timeout_secs} s", _end(counted))
    if int(number) <= check.max_failed_units:
        return PASSED
    units = _units_in((await _run(check, _LIST)).stdout_tail)
    named = f": {', '.join(units)}" if units else ""
    return failed(f"at most {check.max_failed_units} failed units", f"{number}{named}")


async def _run(check: SystemdProbe, command: tuple[str, ...]) -> CommandOutcome:
    return await run_command(
        command, timeout_seconds=check.timeout_secs, environment=probe_environment()
    )


def _units_in(listing: str) -> list[str]:
    return [line.split()[0] for line in listing.splitlines() if line.split()]


def _end(outcome: CommandOutcome) -> str:
    if outcome.timed_out:
        return "systemctl still running"
    said = " ".join((outcome.stderr_tail or outcome.stdout_tail).split())
    return f"{outcome.exit_code} from systemctl" + (f": {said}" if said else "")
