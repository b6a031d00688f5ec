"""Health checks by kind."""

import pytest

from nixfleet_proto.health_check import (
    EvidenceProbe,
    ExecProbe,
    HealthCheck,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
    kind_of,
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
