"""Key ids: from names and back."""

import pytest

from nixfleet_runtime.http.signing.key_id import (
    HostSubject,
    OperatorSubject,
    host_key_id,
    operator_key_id,
    subject_of,
)


@pytest.mark.parametrize(
    ("name", "spelt"),
    [
        ("web-01", "web-01"),
        ("ada@example.org", "ada@example.org"),
        ("Zoë Q.", "Zo%C3%AB Q."),
        ("50% off", "50%25 off"),
        ("a\nb", "a%0Ab"),
    ],
)
def test_a_name_is_spelt_as_it_is_where_a_header_can_carry_it(name: str, spelt: str) -> None:
    """A key id names its subject; what no header can carry is percent-encoded."""
    assert host_key_id(name) == f"host:{spelt}"
    assert operator_key_id(name) == f"operator:{spelt}"
    assert subject_of(host_key_id(name)) == HostSubject(name)
    assert subject_of(operator_key_id(name)) == OperatorSubject(name)


@pytest.mark.parametrize(
    "key_id", ["", "web-01", "ci:web-01", "Host:web-01", "host:web%2D01", "host:%FF"]
)
def test_a_key_id_of_another_kind_or_spelling_names_nobody(key_id: str) -> None:
    """One subject has one key id."""
    assert subject_of(key_id) is None
