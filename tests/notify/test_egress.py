"""Where webhooks may go: to named hosts, at public addresses unless they are named as private."""

import pytest

from nixfleet_notify.ways.egress import EgressRefused, EgressRules

RULES = EgressRules(("hooks.example.org", "1.1.1.1"), ("ntfy.internal", "10.1.2.3"))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("hooks.example.org", "93.184.216.34"),
        ("HOOKS.example.org", "2606:2800:220:1:248:1893:25c8:1946"),
        ("1.1.1.1", "1.1.1.1"),
        ("ntfy.internal", "10.0.0.9"),
        ("ntfy.internal", "127.0.0.1"),
        ("ntfy.internal", "93.184.216.34"),
        ("10.1.2.3", "10.1.2.3"),
    ],
)
def test_a_named_host_is_called_where_it_may_be(host: str, address: str) -> None:
    """At a public address; at a private one if that is said of it."""
    RULES.require(host, address)


@pytest.mark.parametrize(
    ("host", "address", "found"),
    [
        ("evil.example.org", "93.184.216.34", "another host"),
        ("hooks.example.org", "10.0.0.9", "10.0.0.9"),
        ("hooks.example.org", "127.0.0.1", "127.0.0.1"),
        ("hooks.example.org", "::1", "::1"),
        ("hooks.example.org", "::ffff:127.0.0.1", "127.0.0.1"),
        ("hooks.example.org", "2002:7f00:1::", "127.0.0.1"),
        ("hooks.example.org", "64:ff9b::a9fe:a9fe", "169.254.169.254"),
        ("hooks.example.org", "fd00::1", "fd00::1"),
        ("hooks.example.org", "fe80::1%eth0", "fe80::1"),
        ("hooks.example.org", "0.0.0.0", "0.0.0.0"),
        ("hooks.example.org", "224.0.0.1", "224.0.0.1"),
        ("hooks.example.org", "100.64.0.1", "100.64.0.1"),
        # No name leads to the metadata service of a cloud, whatever it is permitted.
        ("ntfy.internal", "169.254.169.254", "169.254.169.254"),
        ("ntfy.internal", "0.0.0.0", "0.0.0.0"),
    ],
)
def test_everything_else_is_refused(host: str, address: str, found: str) -> None:
    """Also an address that is hidden in another one."""
    with pytest.raises(EgressRefused) as refused:
        RULES.require(host, address)
    assert refused.value.found == found
