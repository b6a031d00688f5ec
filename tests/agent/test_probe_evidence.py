"""Evidence probes: believed if the host's key signed it, judged control by control, and stale with time."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_agent.probes.evidence import EvidenceReader, judge
from nixfleet_agent.probes.run import run_probe
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_proto.agent_event import ProbeMode, ProbeStatus, ProbeSubResult
from nixfleet_proto.codec import encode_evidence
from nixfleet_proto.evidence import EVIDENCE_BYTES_MAX, ControlFinding, Evidence
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import (
    FAILURE_REASON_LENGTH_MAX,
    ControlOverride,
    EvidenceProbe,
)
from nixfleet_proto.signing import SigningKey, sign_artefact
from nixfleet_proto.wire import SignedArtefact

pytestmark = pytest.mark.anyio

HOST, STRANGER = SigningKey(b"\1" * 32), SigningKey(b"\2" * 32)
NOW = datetime(2026, 5, 16, 1, tzinfo=UTC)
PASS, FAIL = ProbeStatus.PASS, ProbeStatus.FAIL
ENFORCE, OBSERVE, DISABLED = ProbeMode.ENFORCE, ProbeMode.OBSERVE, ProbeMode.DISABLED

GOOD = ControlFinding("art-21", "nis2", PASS, article="21(2)(a)")
BAD = ControlFinding("art-23", "nis2", FAIL, reason="no log is kept")
FOREIGN = ControlFinding("1.1", "cis", FAIL)
CHECK = EvidenceProbe("nis2", "/evidence.json")


class EvidenceBench:
    """A clock whose sleepers wake at once, after what was to happen meanwhile has happened."""

    def __init__(self) -> None:
        self.time = NOW
        self.meanwhile: Callable[[], None] = lambda: None
        self.sleeps = 0

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps += 1
        self.meanwhile()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "evidence.json"


@pytest.fixture
def bench() -> EvidenceBench:
    return EvidenceBench()


@pytest.fixture
def reader(bench: EvidenceBench) -> EvidenceReader:
    return EvidenceReader(HOST.public_key, bench)


def signed(*controls: ControlFinding, key: SigningKey = HOST) -> SignedArtefact:
    return sign_artefact(encode_evidence(Evidence(NOW, controls)), key)


def put(file: Path, artefact: SignedArtefact) -> None:
    for path, content in ((file, artefact.body), (signature_of(file), artefact.signature)):
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def replace_by_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def replace_by_a_link(file: Path, target: Path) -> None:
    file.unlink()
    file.symlink_to(target)


def signature_of(file: Path) -> Path:
    return file.with_name("evidence.json.sig")


def overridden(**modes: ProbeMode) -> EvidenceProbe:
    names = {name.replace("_", "-"): mode for name, mode in modes.items()}
    overrides = {name: ControlOverride(mode, "until June") for name, mode in names.items()}
    return evolve(CHECK, control_overrides=FrozenMap(overrides))


def judged(check: EvidenceProbe, *controls: ControlFinding, age_seconds: float = 0) -> ProbeOutcome:
    return judge(Evidence(NOW, controls), check, NOW + timedelta(seconds=age_seconds))


# --- whether it is believed ----------------------------------------------------------------------


async def test_evidence_of_the_host_is_believed(file: Path, reader: EvidenceReader) -> None:
    """What the host's key signed is judged, through the runner of all kinds."""
    put(file, signed(GOOD))

    outcome = await run_probe(EvidenceProbe("nis2", str(file)), evidence=reader)

    assert outcome.status is PASS
    assert outcome.sub_results == (
        ProbeSubResult("art-21", PASS, "nis2", "21(2)(a)", effective_mode=ENFORCE),
    )


async def test_evidence_of_another_form_of_the_same_is_believed(
    file: Path, reader: EvidenceReader
) -> None:
    """The signature is over the canonical form: spaces, order and unknown fields' places do not matter."""
    body = (
        b'{ "schemaVersion": 1, "tool": "scan 3",\n "controls": [{"status": "pass", "framework": "nis2", '
        b'"controlId": "art-21"}], "collectedAt": "2026-05-16T01:00:00Z" }'
    )
    put(file, SignedArtefact(body, sign_artefact(body, HOST).signature))

    assert (await reader.run(EvidenceProbe("nis2", str(file)))).status is PASS


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: put(file, signed(GOOD, key=STRANGER)), "signed by none of the trusted keys"),
        (lambda file: signature_of(file).unlink(), "no file "),
        (lambda file: file.unlink(), "no file "),
        (lambda file: signature_of(file).write_bytes(b"x"), "expected a signature of 64 bytes"),
        (lambda file: file.write_bytes(b"{"), "expected JSON"),
        (lambda file: put(file, sign_artefact(b"{}", HOST)), "$.collectedAt"),
        (
            lambda file: put(file, sign_artefact(b'{"schemaVersion":2}', HOST)),
            "expected schema version 1, found 2",
        ),
        (replace_by_a_pipe, "found a named pipe at "),
        (lambda file: replace_by_a_pipe(signature_of(file)), "found a named pipe at "),
        (
            lambda file: file.write_bytes(b" " * (EVIDENCE_BYTES_MAX + 1)),
            "found a larger file at ",
        ),
        (lambda file: replace_by_a_link(file, Path("/dev/zero")), "found a device at "),
    ],
)
async def test_evidence_that_cannot_be_believed_fails_with_the_reason(
    file: Path, reader: EvidenceReader, spoil: Callable[[Path], None], reason: str
) -> None:
    """Another's signature, none, a missing or broken file, another version: each is a failure that says so."""
    put(file, signed(GOOD))
    spoil(file)

    outcome = await reader.run(EvidenceProbe("nis2", str(file)))

    assert outcome.status is FAIL
    assert outcome.failure_reason is not None
    assert outcome.failure_reason.startswith(
        "expected evidence for nis2 that this host's key signed"
    )
    assert reason in outcome.failure_reason


async def test_a_collector_that_is_between_its_two_files_is_waited_for(
    file: Path, reader: EvidenceReader, bench: EvidenceBench
) -> None:
    """New evidence beside the old signature is looked at once more before it counts."""
    put(file, signed(GOOD))
    later = signed(GOOD, FOREIGN)
    put(file, SignedArtefact(later.body, signed(GOOD).signature))
    bench.meanwhile = lambda: put(file, later)

    outcome = await reader.run(EvidenceProbe("nis2", str(file)))

    assert (outcome.status, bench.sleeps) == (PASS, 1)


async def test_an_unchanged_file_is_not_read_again(
    file: Path, reader: EvidenceReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as both files are the same, what was verified stands; a changed one is verified."""
    check = EvidenceProbe("nis2", str(file))
    put(file, signed(GOOD))
    before = await reader.run(check)
    opened: list[str] = []
    really_open: Callable[..., object] = Path.open

    def open_(path: Path, *arguments: str, **options: str) -> object:
        opened.append(path.name)
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)

    again = await reader.run(check)
    unread = list(opened)
    put(file, signed(BAD))
    changed = await reader.run(check)

    assert (again, unread) == (before, [])
    assert changed.status is FAIL


async def test_an_unchanged_file_grows_stale(
    file: Path, reader: EvidenceReader, bench: EvidenceBench
) -> None:
    """Evidence that was good once fails when it is too old, though nobody touched it."""
    check = EvidenceProbe("nis2", str(file), max_age_secs=3600)
    put(file, signed(GOOD))
    assert (await reader.run(check)).status is PASS

    bench.time = NOW + timedelta(seconds=3601)
    outcome = await reader.run(check)

    assert outcome.failure_reason == (
        "expected evidence that is at most 3600 s old, "
        "found it 3601 s old, collected 2026-05-16T01:00:00Z"
    )


async def test_evidence_that_was_spoilt_after_it_was_good_fails(
    file: Path, reader: EvidenceReader
) -> None:
    """What was verified once does not speak for what stands there now."""
    check = EvidenceProbe("nis2", str(file))
    put(file, signed(GOOD))
    assert (await reader.run(check)).status is PASS

    put(file, SignedArtefact(signed(GOOD, FOREIGN).body, signed(GOOD).signature))

    assert (await reader.run(check)).status is FAIL


# --- what it means -------------------------------------------------------------------------------


def test_evidence_that_is_just_fresh_passes() -> None:
    """At its greatest age evidence is good still, and up to a minute ahead a clock may be off."""
    assert judged(CHECK, GOOD, age_seconds=24 * 3600).status is PASS
    assert judged(CHECK, GOOD, age_seconds=-60).status is PASS


def test_evidence_from_the_future_fails() -> None:
    """Evidence cannot have been collected later than now."""
    outcome = judged(CHECK, GOOD, age_seconds=-61)

    assert outcome.failure_reason is not None
    assert "found it 61 s ahead" in outcome.failure_reason


def test_a_failing_control_fails_the_probe_and_is_named() -> None:
    """All controls of the framework are in the result, those of others are not."""
    outcome = judged(CHECK, FOREIGN, BAD, GOOD)

    assert outcome.status is FAIL
    assert outcome.failure_reason == (
        "expected all 2 controls of nis2 that count to pass, "
        "found 1 that fail: art-23 (no log is kept)"
    )
    assert [(it.control_id, it.status) for it in outcome.sub_results or ()] == [
        ("art-21", PASS),
        ("art-23", FAIL),
    ]


@pytest.mark.parametrize("mode", [OBSERVE, DISABLED])
def test_an_overridden_control_does_not_count_and_says_why(mode: ProbeMode) -> None:
    """A control that is observed or disabled fails nothing, and stands in the result with mode and reason."""
    outcome = judged(overridden(art_23=mode), BAD, GOOD)

    assert outcome.status is PASS
    assert outcome.sub_results is not None
    assert outcome.sub_results[1] == ProbeSubResult(
        "art-23", FAIL, "nis2", effective_mode=mode, override_reason="until June"
    )


def test_a_control_can_be_enforced_in_an_observed_framework() -> None:
    """The stricter override counts, by itself and with its mode in the result."""
    check = evolve(overridden(art_23=ENFORCE), mode=OBSERVE, reason="new here")
    outcome = judged(check, BAD, GOOD)

    assert outcome.status is FAIL
    assert [(it.effective_mode, it.override_reason) for it in outcome.sub_results or ()] == [
        (OBSERVE, "new here"),
        (ENFORCE, "until June"),
    ]


def test_an_observed_framework_tells_what_it_observes() -> None:
    """A failing control fails an observed probe too; what that decides is up to its mode."""
    assert judged(evolve(CHECK, mode=OBSERVE), BAD).status is FAIL


@pytest.mark.parametrize(
    ("check", "controls", "found"),
    [
        (CHECK, (), "expected findings for nis2, found none at all"),
        (CHECK, (FOREIGN,), "expected findings for nis2, found cis"),
        (CHECK, (GOOD, GOOD), "expected one finding for each control, found more for art-21"),
        (
            overridden(art_24=ENFORCE),
            (GOOD,),
            "expected a finding for each enforced control, found none for art-24",
        ),
    ],
)
def test_findings_that_are_not_there_fail(
    check: EvidenceProbe, controls: tuple[ControlFinding, ...], found: str
) -> None:
    """Nothing about the framework, two answers about one control, none about an enforced one: not a pass."""
    assert judged(check, *controls).failure_reason == found


def test_a_long_reason_is_cut() -> None:
    """However many controls fail, the reason has at most 512 characters."""
    many = (ControlFinding(f"control-{number}", "nis2", FAIL) for number in range(200))
    outcome = judged(CHECK, *many)

    assert len(outcome.failure_reason or "") == FAILURE_REASON_LENGTH_MAX
    assert len(outcome.sub_results or ()) == 200
