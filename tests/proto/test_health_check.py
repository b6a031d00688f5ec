"""Health checks by kind."""

import pytest

from nixfleet_proto.codec import (
    DecodeError,
    DecodeProblem,
    HealthCheckSet,
    decode_health_checks,
    encode_health_checks,
)
from nixfleet_proto.health_check import (
    EvidenceProbe,
    ExecProbe,
    HealthCheck,
    HealthRule,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
    health_rule_of,
    healthy_objection,
    kind_of,
    time_limit_seconds_of,
)


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (HttpProbe("http://localhost/healthz"), "http"),
        (TcpProbe("localhost", 5432), "tcp"),
        (ExecProbe(("systemctl", "is-active", "nginx")), "exec"),
        (EvidenceProbe("cis", "/run/evidence.json"), "evidence"),
        (SystemdProbe(), "systemd"),
    ],
    ids=["http", "tcp", "exec", "evidence", "systemd"],
)
def test_the_kind_of_a_check_is_as_declarations_spell_it(check: HealthCheck, kind: str) -> None:
    """Declaration, topology and closure have one word for each kind."""
    assert kind_of(check) == kind


@pytest.mark.parametrize(
    ("healthy", "rule"),
    [
        (None, None),
        ("latest", None),
        ("last-third", HealthRule(1, 100)),
        ("1%", HealthRule(3, 1)),
        ("90%", HealthRule(3, 90)),
        ("100%", HealthRule(3, 100)),
    ],
)
def test_a_rule_says_which_samples_count_and_how_many_must_pass(
    healthy: str | None, rule: HealthRule | None
) -> None:
    """The latest sample decides, unless the declaration asks for more."""
    check = TcpProbe("localhost", 80, healthy=healthy)

    assert health_rule_of(check) == rule
    assert healthy_objection(check) is None


@pytest.mark.parametrize(
    "healthy", ["", "0%", "101%", "05%", "90", "9 0%", "-1%", "LATEST", "90%\n"]
)
def test_an_unknown_rule_is_refused_where_a_closure_is_read(healthy: str) -> None:
    """The refusal says what there is; a probe whose rule is not known must not be taken for healthy."""
    checks = HealthCheckSet({"web": TcpProbe("localhost", 80, healthy=healthy)})

    with pytest.raises(DecodeError) as refused:
        decode_health_checks(encode_health_checks(checks))

    (problem,) = refused.value.problems
    assert problem == DecodeProblem(
        "$.web.healthy", '"latest", "last-third" or a share from "1%" to "100%"', repr(healthy)
    )


def test_a_check_that_runs_once_has_no_share_of_passes() -> None:
    """One sample says nothing about a share; the option would do nothing."""
    check = TcpProbe("localhost", 80, run_once=True, healthy="90%")

    assert healthy_objection(check) == ('"latest", as the check runs once', "'90%'")


def test_a_check_without_a_rule_has_the_bytes_of_before() -> None:
    """A closure's hash must not change because there is a new option."""
    assert b"healthy" not in encode_health_checks(HealthCheckSet({"a": TcpProbe("localhost", 80)}))


@pytest.mark.parametrize(
    ("check", "seconds"),
    [
        (HttpProbe("http://localhost/", timeout_secs=7), 7),
        (TcpProbe("localhost", 80, connect_timeout_secs=4), 4),
        (ExecProbe(("true",), timeout_secs=20), 20),
        (SystemdProbe(timeout_secs=6), 6),
        (EvidenceProbe("cis", "/run/evidence.json"), 0),
    ],
)
def test_a_run_takes_as_long_as_its_time_limit_at_most(check: HealthCheck, seconds: int) -> None:
    """The slowest probe still takes so many samples in a soak."""
    assert time_limit_seconds_of(check) == seconds
