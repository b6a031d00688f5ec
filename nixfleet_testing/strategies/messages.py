"""Wire messages, enrollment, trust files and health checks.

Signatures have the right form and are invalid: only a key makes a valid one, and only the verifier makes a
`Verified`.
"""

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.agent_event import ProbeMode, ProbeStatus
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    BootstrapToken,
    EnrollRequest,
    Revocation,
    Revocations,
    SignedToken,
)
from nixfleet_proto.evidence import ControlFinding, Evidence
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import (
    ControlOverride,
    EvidenceProbe,
    ExecProbe,
    HealthCheck,
    HomeProbe,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
)
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustedKey, TrustRoot
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, EventBatch, SignedArtefact
from nixfleet_testing.strategies.facts import facts
from nixfleet_testing.strategies.names import (
    START,
    closures,
    hostnames,
    rollout_ids,
    times,
)
from nixfleet_testing.strategies.releases import DIGESTS, metas

_HEX_SIGNATURES = st.sampled_from(("0" * 128, "f" * 128))
_INTERVALS = st.sampled_from((5, 30))
_HEALTHY = st.sampled_from((None, "latest", "last-third", "90%"))
_RUN_ONCE = st.booleans()
_CONTROLS: SearchStrategy[str] = st.sampled_from(("art-21", "art-23"))
_REASONS = st.none() | st.just("replaced in May")
_NONCES = st.sampled_from(("n-1", "n-2"))


def envelopes() -> SearchStrategy[AgentEventEnvelope]:
    """Facts as agents send them one by one."""
    return st.builds(
        AgentEventEnvelope, hostnames(), rollout_ids(), facts(), st.none() | _HEX_SIGNATURES
    )


@st.composite
def event_batches(draw: st.DrawFn) -> EventBatch:
    """Batches of one host; the envelopes carry no signature of their own."""
    host, rollout_id = draw(hostnames()), draw(rollout_ids())
    drawn = draw(st.lists(facts(), min_size=1, max_size=3))
    events = tuple(AgentEventEnvelope(host, rollout_id, fact) for fact in drawn)
    return EventBatch(events, draw(st.none() | _HEX_SIGNATURES))


def dispatches() -> SearchStrategy[Dispatch]:
    due = times(earliest=START)
    return st.builds(Dispatch, hostnames(), rollout_ids(), closures(), due, times())


def signed_artefacts() -> SearchStrategy[SignedArtefact]:
    """Bytes with 64 bytes beside them, which no key made."""
    return st.builds(
        SignedArtefact, st.sampled_from((b"{}", b"[]")), st.sampled_from((bytes(64), b"s" * 64))
    )


def http_probes() -> SearchStrategy[HttpProbe]:
    return st.builds(
        HttpProbe,
        st.sampled_from(("http://127.0.0.1/health", "http://localhost:8080/")),
        st.sampled_from((200, 204)),
        st.none() | st.just("ok"),
        interval_seconds=_INTERVALS,
        run_once=_RUN_ONCE,
    )


def tcp_probes() -> SearchStrategy[TcpProbe]:
    ports = st.sampled_from((22, 443))
    return st.builds(
        TcpProbe, st.just("localhost"), ports, interval_seconds=_INTERVALS, healthy=_HEALTHY
    )


def exec_probes() -> SearchStrategy[ExecProbe]:
    commands = st.sampled_from((("true",), ("systemctl", "is-active", "nginx")))
    return st.builds(
        ExecProbe, commands, st.integers(0, 1), interval_seconds=_INTERVALS, run_once=_RUN_ONCE
    )


def home_probes() -> SearchStrategy[HomeProbe]:
    """Return a strategy for probes of the contact with the control plane."""
    seconds = st.integers(120, 600)
    second = st.none() | st.just("gateway.example.org:443")
    return st.builds(HomeProbe, seconds, second, interval_seconds=_INTERVALS)


def systemd_probes() -> SearchStrategy[SystemdProbe]:
    return st.builds(
        SystemdProbe, st.integers(0, 2), interval_seconds=_INTERVALS, run_once=_RUN_ONCE
    )


def evidence_probes() -> SearchStrategy[EvidenceProbe]:
    return st.builds(
        EvidenceProbe,
        st.just("nis2-essential"),
        st.just("/var/lib/evidence.json"),
        interval_seconds=_INTERVALS,
        run_once=_RUN_ONCE,
        reason=_REASONS,
        control_overrides=st.dictionaries(_CONTROLS, control_overrides()).map(
            FrozenMap[str, ControlOverride]
        ),
    )


def control_overrides() -> SearchStrategy[ControlOverride]:
    return st.builds(ControlOverride, st.sampled_from(ProbeMode), _REASONS)


def control_findings() -> SearchStrategy[ControlFinding]:
    return st.builds(
        ControlFinding,
        _CONTROLS,
        st.sampled_from(("nis2", "cis")),
        st.sampled_from(ProbeStatus),
        article=st.none() | st.just("21(2)(a)"),
        reason=_REASONS,
    )


def evidence() -> SearchStrategy[Evidence]:
    """Evidence of two frameworks; a control may be found out about more than once."""
    return st.builds(Evidence, times(), st.lists(control_findings(), max_size=4).map(tuple))


def health_checks() -> SearchStrategy[HealthCheck]:
    """A check of any kind."""
    return st.one_of(
        http_probes(),
        tcp_probes(),
        exec_probes(),
        evidence_probes(),
        systemd_probes(),
        home_probes(),
    )


def trusted_keys() -> SearchStrategy[TrustedKey]:
    return st.builds(TrustedKey, DIGESTS)


def key_slots() -> SearchStrategy[KeySlot]:
    return st.builds(KeySlot, trusted_keys(), st.none() | trusted_keys(), st.none() | times())


def operators() -> SearchStrategy[Operator]:
    names = st.sampled_from(("alice", "bob"))
    return st.builds(Operator, names, trusted_keys(), st.sampled_from(OperatorRole))


def trust_roots() -> SearchStrategy[TrustRoot]:
    """Trust files in which no operator is named twice, and no two have one key."""
    several = st.lists(operators(), max_size=2, unique_by=(_name_of, _key_of))
    return st.builds(TrustRoot, key_slots(), st.none() | key_slots(), several.map(tuple))


def _name_of(operator: Operator) -> str:
    return operator.name


def _key_of(operator: Operator) -> str:
    return operator.public_key.public_key.lower()


@st.composite
def bootstrap_tokens(draw: st.DrawFn) -> BootstrapToken:
    """Tokens that expire after they were issued."""
    issued_at = draw(times())
    expires_at = draw(times(earliest=issued_at))
    return BootstrapToken(draw(hostnames()), draw(DIGESTS), issued_at, expires_at, draw(_NONCES))


def signed_tokens() -> SearchStrategy[SignedToken]:
    return st.builds(SignedToken, bootstrap_tokens(), _HEX_SIGNATURES)


def enroll_requests() -> SearchStrategy[EnrollRequest]:
    return st.builds(EnrollRequest, signed_tokens(), DIGESTS)


def bootstrap_nonces() -> SearchStrategy[BootstrapNonce]:
    return st.builds(BootstrapNonce, _NONCES, hostnames(), times())


def nonce_lists() -> SearchStrategy[BootstrapNonces]:
    """The artefact, sorted, no nonce twice."""
    several = st.lists(bootstrap_nonces(), max_size=2, unique_by=lambda nonce: nonce.nonce)
    ordered = several.map(lambda nonces: tuple(sorted(nonces, key=lambda nonce: nonce.nonce)))
    return st.builds(BootstrapNonces, ordered, metas())


def revocations() -> SearchStrategy[Revocation]:
    return st.builds(Revocation, hostnames(), times(), st.none() | st.just("stolen"))


def revocation_lists() -> SearchStrategy[Revocations]:
    """The artefact, sorted, no host twice."""
    several = st.lists(revocations(), max_size=2, unique_by=lambda entry: entry.hostname)
    ordered = several.map(lambda found: tuple(sorted(found, key=lambda entry: entry.hostname)))
    return st.builds(Revocations, ordered, metas())


def no_verified(form: type[object]) -> SearchStrategy[object]:
    """Refuse: a `Verified` that was not verified is what the type exists to rule out."""
    raise InvalidArgument(
        f"{form}: Verified values are made by nixfleet_proto.signing alone; "
        "draw manifests() or fleets(), sign them with a key of the test, and verify"
    )
