"""`to_json`: values as JSON, by type. That it spells records as the codec does is a law (`test_data_laws.py`)."""

from datetime import UTC, datetime, timedelta, timezone
from enum import Enum

import pytest

from nixfleet_proto import (
    Dispatch,
    FleetHost,
    FrozenMap,
    HttpProbe,
    InvalidValue,
    OnHealthFailure,
    ProbeMode,
    ProbeObservedFirst,
    Selector,
    to_json,
)

NOON = datetime(2026, 5, 16, 12, 0, tzinfo=UTC)


class Colour(Enum):
    """An enum that is no string."""

    RED = 3


@pytest.mark.parametrize("value", [None, True, 7, 0.5, "web-01"])
def test_a_value_that_json_has_itself_stays_as_it_is(value: object) -> None:
    """Numbers, strings, booleans and None are JSON already."""
    assert to_json(value) == value


def test_a_member_of_an_enum_is_written_by_its_value() -> None:
    """Whether it is a string or not."""
    assert to_json(OnHealthFailure.HALT) == "halt"
    assert to_json(Colour.RED) == 3


def test_a_duration_is_written_in_microseconds() -> None:
    """The smallest unit of a timedelta, so that nothing is lost."""
    assert to_json(timedelta(hours=72, microseconds=1)) == 259_200_000_001


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (NOON, "2026-05-16T12:00:00Z"),
        (NOON.replace(microsecond=250_000), "2026-05-16T12:00:00.250Z"),
        (NOON.replace(microsecond=250_001), "2026-05-16T12:00:00.250001Z"),
        (NOON.astimezone(timezone(timedelta(hours=2))), "2026-05-16T12:00:00Z"),
    ],
)
def test_a_time_is_written_in_utc_with_the_fewest_digits_that_are_exact(
    at: datetime, text: str
) -> None:
    """A fraction has no, three or six digits."""
    assert to_json(at) == text


def test_a_set_is_written_as_a_sorted_list() -> None:
    """Equal sets have one text."""
    assert to_json(frozenset({"web-02", "web-01"})) == ["web-01", "web-02"]


def test_mappings_and_sequences_are_written_with_what_they_hold() -> None:
    """Records are found at any depth; keys become strings."""
    value = {1: (Selector(all=True),), "tags": FrozenMap({"a": ["b"]})}

    assert to_json(value) == {
        "1": [{"all": True, "hosts": [], "channel": None, "tags": [], "tagsAny": []}],
        "tags": {"a": ["b"]},
    }


def test_what_is_signed_is_written_with_its_absent_options() -> None:
    """An option that was not given is null in a fleet."""
    assert to_json(FleetHost("stable")) == {
        "channel": "stable",
        "tags": [],
        "platform": "x86_64-linux",
        "closureHash": None,
        "pubkey": None,
    }


def test_a_fact_is_written_after_its_kind() -> None:
    """The class of a fact is its `kind`, the first member; names are in camelCase."""
    fact = ProbeObservedFirst("nginx", ProbeMode.ENFORCE, NOON, 4)

    spelt = to_json(fact)
    assert isinstance(spelt, dict)
    assert list(spelt.items()) == [
        ("kind", "ProbeObservedFirst"),
        ("probeName", "nginx"),
        ("mode", "enforce"),
        ("observedAt", "2026-05-16T12:00:00Z"),
        ("seq", 4),
    ]


def test_a_health_check_is_written_without_absent_options() -> None:
    """A probe has the kind that declarations use."""
    spelt = to_json(HttpProbe("http://localhost/"))

    assert spelt == {
        "kind": "http",
        "url": "http://localhost/",
        "expectStatus": 200,
        "timeoutSecs": 3,
        "intervalSeconds": 30,
        "mode": "enforce",
        "runOnce": False,
    }


def test_a_dispatch_is_written_in_snake_case() -> None:
    """The one message of the wire that is."""
    assert to_json(Dispatch("web-01", "stable@a1", "new", NOON, NOON)) == {
        "hostname": "web-01",
        "rollout_id": "stable@a1",
        "target_closure": "new",
        "soak_due_at": "2026-05-16T12:00:00Z",
        "enqueued_at": "2026-05-16T12:00:00Z",
    }


def test_a_value_of_another_kind_is_refused_by_name() -> None:
    """Also inside a mapping; nothing is turned into a string."""
    with pytest.raises(InvalidValue, match="expected a record of nixfleet"):
        to_json({"value": object()})
