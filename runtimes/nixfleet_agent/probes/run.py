"""Runs each check with the runner of its kind. Any error of a runner is a failure of that check.

Source: docs/spec/declarations.md, Probe kinds: a probe that cannot run fails; there is no "unknown".
"""

from pathlib import Path
from typing import assert_never

from attrs import frozen

from nixfleet_agent.probes.evidence import EvidenceReader
from nixfleet_agent.probes.exec import run_exec_probe
from nixfleet_agent.probes.http import run_http_probe
from nixfleet_agent.probes.runner import ProbeOutcome, described, failed
from nixfleet_agent.probes.systemd import run_systemd_probe
from nixfleet_agent.probes.tcp import run_tcp_probe
from nixfleet_proto.health_check import (
    EvidenceProbe,
    ExecProbe,
    HealthCheck,
    HomeProbe,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
    kind_of,
)


@frozen
class ClosureProbeRunner:
    """The `ProbeRunner` of the agent, for the closure with the files in `closure_root`.

    closure_root may also be a link to the running closure.
    """

    closure_root: Path | None = None
    evidence: EvidenceReader | None = None

    async def run(self, check: HealthCheck) -> ProbeOutcome:
        return await run_probe(check, closure_root=self.closure_root, evidence=self.evidence)


async def run_probe(
    check: HealthCheck,
    *,
    closure_root: Path | None = None,
    evidence: EvidenceReader | None = None,
) -> ProbeOutcome:
    """Run `check` once and return the outcome; raises nothing except cancellation.

    closure_root: the directory for commands with a relative path; see `probes.exec`. evidence: reads evidence signed
    by this host's key; without it, evidence probes fail.
    """
    try:
        return await _run(check, closure_root, evidence)
    except Exception as error:
        # A host name that cannot be encoded, a port out of range, no memory for a process: each library
        # raises its own errors, and all of them mean a probe that cannot run.
        return failed(f"the {kind_of(check)} probe to run", described(error))


async def _run(
    check: HealthCheck, closure_root: Path | None, evidence: EvidenceReader | None
) -> ProbeOutcome:
    match check:
        case HttpProbe():
            return await run_http_probe(check)
        case TcpProbe():
            return await run_tcp_probe(check)
        case ExecProbe():
            return await run_exec_probe(check, closure_root)
        case SystemdProbe():
            return await run_systemd_probe(check)
        case EvidenceProbe():
            if evidence is None:
                return failed(
                    f"the host's key, to check evidence for {check.framework} with", "none"
                )
            return await evidence.run(check)
        case HomeProbe():
            # Nothing to run: the engine judges when the control plane answered, which only the agent knows.
            return failed("an agent, whose contact with the control plane is judged", "none")
        case _:
            assert_never(check)
