"""A FrozenMap is a mapping that never changes, so that frozen records may hold it."""

import copy
import pickle
from collections.abc import Mapping

import pytest

from nixfleet_proto.frozen_map import FrozenMap


def test_a_map_of_items_reads_like_a_dict() -> None:
    """Look-up, membership, length and views are those of a dict."""
    ports = FrozenMap({"http": 80, "https": 443})

    assert (ports["http"], len(ports), "https" in ports, "ssh" in ports) == (80, 2, True, False)
    assert list(ports.keys()) == ["http", "https"]
    assert list(ports.values()) == [80, 443]
    assert list(ports.items()) == [("http", 80), ("https", 443)]


def test_a_missing_key_is_an_error_or_the_default() -> None:
    """Indexing raises KeyError; `get` gives the default, or None."""
    ports = FrozenMap({"http": 80})

    with pytest.raises(KeyError):
        ports["ssh"]
    assert ports.get("ssh") is None
    assert ports.get("ssh", 22) == 22


def test_a_map_of_pairs_keeps_their_order() -> None:
    """Pairs work as items do, in the order they come."""
    assert list(FrozenMap([("b", 1), ("a", 2)])) == ["b", "a"]


def test_changing_what_a_map_was_made_of_does_not_change_the_map() -> None:
    """The map holds its own copy."""
    source = {"http": 80}
    ports = FrozenMap(source)
    source["http"] = 8080

    assert ports["http"] == 80


def test_adding_an_item_gives_another_map() -> None:
    """`with_item` leaves the map as it was."""
    ports = FrozenMap({"http": 80})
    more = ports.with_item("https", 443)

    assert ports == {"http": 80}
    assert more == {"http": 80, "https": 443}


def test_replacing_an_item_keeps_its_place() -> None:
    """A key that is there gets the new value where it stands."""
    ports = FrozenMap({"http": 80, "https": 443}).with_item("http", 8080)

    assert list(ports.items()) == [("http", 8080), ("https", 443)]


def test_setting_an_attribute_is_refused() -> None:
    """Not even the inside can be exchanged, or taken away."""
    ports = FrozenMap({"http": 80})

    with pytest.raises(AttributeError, match="FrozenMap is immutable: cannot set '_items'"):
        setattr(ports, "_items", {})  # noqa: B010
    with pytest.raises(AttributeError, match="FrozenMap is immutable: cannot delete '_items'"):
        delattr(ports, "_items")
    assert ports == {"http": 80}


def test_equal_items_make_equal_maps_with_one_hash() -> None:
    """Order does not matter to equality nor to the hash, so a map can be a key."""
    one = FrozenMap({"a": 1, "b": 2})
    other = FrozenMap({"b": 2, "a": 1})

    assert one == other
    assert hash(one) == hash(other)
    assert {one: "found"}[other] == "found"


@pytest.mark.parametrize(
    "other", [FrozenMap({"a": 2}), FrozenMap({"b": 1}), FrozenMap[str, int](), {"a": 2}, [("a", 1)]]
)
def test_other_items_make_another_map(other: object) -> None:
    """A different value, key or kind of thing is not equal."""
    assert FrozenMap({"a": 1}) != other


def test_a_map_equals_any_mapping_with_its_items() -> None:
    """A dict with the same items is equal, from either side."""
    same: Mapping[str, int] = {"a": 1}

    assert FrozenMap({"a": 1}) == same
    assert same == FrozenMap({"a": 1})


def test_a_map_with_a_mutable_value_has_no_hash() -> None:
    """Hashing asks the values; a list among them refuses."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(FrozenMap({"a": [1]}))


def test_a_map_survives_copying_and_pickling() -> None:
    """Copies and unpickled maps are equal FrozenMaps."""
    ports = FrozenMap({"http": 80})
    hash(ports)

    for back in (copy.copy(ports), copy.deepcopy(ports), pickle.loads(pickle.dumps(ports))):
        assert type(back) is FrozenMap
        assert back == ports
        assert hash(back) == hash(ports)


def test_a_map_shows_its_items() -> None:
    """The representation names the type and the items."""
    assert repr(FrozenMap({"http": 80})) == "FrozenMap({'http': 80})"
