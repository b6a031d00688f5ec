"""`closest`: what was probably meant, and when no guess is better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_runtime.documents.problems import closest

KNOWN = ["canary-first", "db-01", "lab-02", "stable", "web-01", "web-02", "status"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("stabel", "stable"),
        ("stabl", "stable"),
        ("Stable", "stable"),
        ("web_01", "web-01"),
        ("web01", "web-01"),
        ("web-1", "web-01"),
        ("canery-frist", "canary-first"),
        ("statsu", "status"),
        ("canary", "canary-first"),
        ("lab-20", "lab-02"),
    ],
)
def test_a_near_name_is_what_was_meant(name: str, meant: str) -> None:
    """One slip in three letters, two digits swapped, or a part left out."""
    assert closest(name, KNOWN) == meant


@pytest.mark.parametrize(
    "name", ["web-09", "web-99", "db-02", "edge", "nobody", "", "s", "web", "bd"]
)
def test_another_name_is_no_misspelling(name: str) -> None:
    """Names that differ in their digits are other machines, and far names are no guess."""
    assert closest(name, KNOWN) is None


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=5))
def test_a_guess_is_a_known_name_and_never_the_name_itself(name: str, known: list[str]) -> None:
    """Whatever the names."""
    meant = closest(name, known)
    assert meant is None or (meant in known and meant != name)


@given(st.text(min_size=4, max_size=12), st.integers(0, 11))
def test_a_dropped_letter_is_always_found(name: str, index: int) -> None:
    """The nearest possible slip."""
    at = index % len(name)
    assert closest(name[:at] + name[at + 1 :], [name]) == name
