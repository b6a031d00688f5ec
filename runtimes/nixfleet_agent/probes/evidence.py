"""Runs evidence probes: a collector's findings about this host, accepted if this host's key signed them.

    /var/lib/compliance/evidence.json      canonical JSON or any other, `nixfleet_proto.evidence`
    /var/lib/compliance/evidence.json.sig  64 bytes, over its canonical form

A file that has not changed is not verified again, but judged again, since it becomes stale. Two files cannot be
replaced atomically, so a signature that does not match is read once more before it counts.
Source: docs/spec/trust.md, Evidence.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

from attrs import evolve

from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, failed
from nixfleet_proto.agent_event import ProbeMode, ProbeStatus, ProbeSubResult
from nixfleet_proto.codec import format_time
from nixfleet_proto.evidence import EVIDENCE_BYTES_MAX, ControlFinding, Evidence
from nixfleet_proto.health_check import EvidenceProbe
from nixfleet_proto.signing import CLOCK_SKEW, BadSignature, VerifyError, verify_evidence
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.process.threads import in_abandonable_thread
from nixfleet_runtime.releases.directory import load_artefact
from nixfleet_runtime.releases.layout import SIGNATURE_SUFFIX
from nixfleet_runtime.storage.regular_file import UnfitFile

SECOND_LOOK_SECONDS: Final = 0.2

_Identity: TypeAlias = tuple[tuple[int, int, int], ...]


class EvidenceReader:
    """Reads evidence for the probes of one host, and caches verified evidence.

    host_key: the public half of the key that the host holds.
    """

    def __init__(self, host_key: TrustedKey, clock: Clock) -> None:
        self._host_key = host_key
        self._clock = clock
        self._verified: dict[Path, tuple[_Identity, Evidence]] = {}

    async def run(self, check: EvidenceProbe) -> ProbeOutcome:
        """Judge the evidence at the check's path."""
        path = Path(check.evidence_path)
        expected = f"evidence for {check.framework} that this host's key signed"
        try:
            evidence = await self._read(path)
        except FileNotFoundError as error:
            return failed(expected, f"no file {error.filename}")
        except UnfitFile as error:
            return failed(expected, f"{error.found} at {error.path}")
        except OSError as error:
            return failed(expected, f"{error.strerror} at {error.filename or path}")
        except VerifyError as error:
            return failed(expected, f"{path}: {error}")
        return judge(evidence, check, self._clock.now())

    async def _read(self, path: Path) -> Evidence:
        try:
            return await self._load_in_thread(path)
        except BadSignature:
            # The collector may have replaced one of the two files just now.
            await self._clock.sleep(SECOND_LOOK_SECONDS)
            return await self._load_in_thread(path)

    async def _load_in_thread(self, path: Path) -> Evidence:
        # Abandoned on cancellation: a file system that does not answer must not hold up the agent's end.
        return await in_abandonable_thread(lambda: self._load(path))

    def _load(self, path: Path) -> Evidence:
        before = _identity_of(path)
        known = self._verified.get(path)
        if known is not None and known[0] == before:
            return known[1]
        signed = load_artefact(path, bytes_max=EVIDENCE_BYTES_MAX)
        evidence = verify_evidence(signed, self._host_key)
        if _identity_of(path) == before:
            self._verified[path] = (before, evidence)
        return evidence


def judge(evidence: Evidence, check: EvidenceProbe, now: datetime) -> ProbeOutcome:
    """Return the outcome of `check` for verified `evidence` at `now`. Pure.

    A control counts by the mode that the check gives it. The result has every control of the framework, including
    those that do not count.
    """
    age = now - evidence.collected_at
    if age.total_seconds() > check.max_age_secs:
        return failed(
            f"evidence that is at most {check.max_age_secs} s old",
            f"it {_seconds(age)} s old, collected {format_time(evidence.collected_at)}",
        )
    if -age > CLOCK_SKEW:
        return failed(
            "evidence from the past",
            f"it {_seconds(-age)} s ahead, collected {format_time(evidence.collected_at)}",
        )
    findings = [each for each in evidence.controls if each.framework == check.framework]
    unfit = next(_unfit(findings, evidence, check), None)
    return _counted(findings, check) if unfit is None else unfit


def _unfit(
    findings: Sequence[ControlFinding], evidence: Evidence, check: EvidenceProbe
) -> Iterator[ProbeOutcome]:
    """Yield the reasons why the findings cannot be judged."""
    if not findings:
        others = sorted({each.framework for each in evidence.controls})
        yield failed(f"findings for {check.framework}", ", ".join(others) or "none at all")
    counts = Counter(each.control_id for each in findings)
    repeated = sorted(control for control, count in counts.items() if count > 1)
    if repeated:
        yield failed("one finding for each control", f"more for {', '.join(repeated)}")
    enforced = {
        each for each, over in check.control_overrides.items() if over.mode is ProbeMode.ENFORCE
    }
    missing = sorted(enforced - counts.keys())
    if missing:
        yield failed("a finding for each enforced control", f"none for {', '.join(missing)}")


def _counted(findings: Sequence[ControlFinding], check: EvidenceProbe) -> ProbeOutcome:
    ordered = sorted(findings, key=lambda each: each.control_id)
    results = tuple(_result(each, check) for each in ordered)
    counting = [each for each in zip(ordered, results, strict=True) if _counts(each[1], check)]
    failing = [each for each, result in counting if result.status is ProbeStatus.FAIL]
    if not failing:
        return evolve(PASSED, sub_results=results)
    outcome = failed(
        f"all {len(counting)} controls of {check.framework} that count to pass",
        f"{len(failing)} that fail: {', '.join(map(_named, failing))}",
    )
    return evolve(outcome, sub_results=results)


def _result(finding: ControlFinding, check: EvidenceProbe) -> ProbeSubResult:
    override = check.control_overrides.get(finding.control_id)
    return ProbeSubResult(
        control_id=finding.control_id,
        status=finding.status,
        framework=finding.framework,
        article=finding.article,
        effective_mode=check.mode if override is None else override.mode,
        override_reason=check.reason if override is None else override.reason or check.reason,
    )


def _counts(result: ProbeSubResult, check: EvidenceProbe) -> bool:
    # An observed framework reports the results of its observed controls.
    observed = check.mode is not ProbeMode.ENFORCE and result.effective_mode is ProbeMode.OBSERVE
    return result.effective_mode is ProbeMode.ENFORCE or observed


def _named(finding: ControlFinding) -> str:
    return finding.control_id + (f" ({finding.reason})" if finding.reason else "")


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


def _signature_of(path: Path) -> Path:
    return path.with_name(path.name + SIGNATURE_SUFFIX)


def _identity_of(path: Path) -> _Identity:
    statuses = (path.stat(), _signature_of(path).stat())
    return tuple((each.st_ino, each.st_ctime_ns, each.st_size) for each in statuses)
