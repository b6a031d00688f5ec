"""What drafting builds is what attrs builds: nobody can tell them apart, and nobody can change either."""

import copy
import pickle
import weakref
from typing import Any

import attrs
import pytest
from attrs import field, frozen

from nixfleet_proto.agent_event import ProbeMode, ProbeResult, ProbeStatus
from nixfleet_proto.drafting import evolver, holder, maker
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from tests.builders import T0, at, pending_host, probe_pass, soaking_host

ARGUMENTS = ("nginx", ProbeMode.ENFORCE, ProbeStatus.FAIL, T0, "HTTP 503")
made_result = maker(ProbeResult)
evolved_host = evolver(HostRolloutState, "last_event_seq")

PAIRS: list[tuple[Any, Any]] = [
    (made_result(*ARGUMENTS, seq=7), ProbeResult(*ARGUMENTS, seq=7)),
    (
        evolved_host(
            soaking_host(probe_pass()), 9, {"state": HostState.FAILED, "failed_at": at(1)}
        ),
        attrs.evolve(
            soaking_host(probe_pass()), last_event_seq=9, state=HostState.FAILED, failed_at=at(1)
        ),
    ),
]
pairs = pytest.mark.parametrize(("drafted", "by_attrs"), PAIRS, ids=["made", "evolved"])


@pairs
def test_a_drafted_instance_is_equal_to_the_one_of_attrs_in_every_way(
    drafted: Any, by_attrs: Any
) -> None:
    """Class, equality, hash, repr and fields are the same."""
    assert type(drafted) is type(by_attrs)
    assert drafted == by_attrs
    assert by_attrs == drafted
    assert hash(drafted) == hash(by_attrs)
    assert repr(drafted) == repr(by_attrs)
    assert attrs.astuple(drafted, recurse=False) == attrs.astuple(by_attrs, recurse=False)


@pairs
def test_a_drafted_instance_survives_pickling_copying_and_evolving(
    drafted: Any, by_attrs: Any
) -> None:
    """What makes another instance of it makes the same as of the one of attrs."""
    assert pickle.loads(pickle.dumps(drafted)) == by_attrs
    assert copy.copy(drafted) == copy.deepcopy(drafted) == by_attrs
    assert type(attrs.evolve(drafted)) is type(by_attrs)
    assert attrs.evolve(drafted) == by_attrs


@pairs
def test_a_drafted_instance_is_frozen_and_has_slots(drafted: Any, by_attrs: Any) -> None:
    """No field can be set, deleted or added, and there is no dict that would take one."""
    name = attrs.fields(type(by_attrs))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(drafted, name, None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(drafted, name)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        drafted.something_new = 1
    assert not hasattr(drafted, "__dict__")
    assert weakref.ref(drafted)() is drafted


@pairs
def test_a_drafted_instance_matches_class_patterns(drafted: Any, by_attrs: Any) -> None:
    """`match` sees the class and its fields in order."""
    match drafted:
        case ProbeResult(name, _, ProbeStatus.FAIL):
            assert name == by_attrs.probe_name
        case HostRolloutState(rollout_id=rollout_id):
            assert rollout_id == by_attrs.rollout_id
        case _:
            pytest.fail(f"{drafted!r} matches nothing")


def test_evolving_leaves_the_record_it_began_with_as_it_was() -> None:
    """The fields of the record are read, never written."""
    record = pending_host()
    before = attrs.asdict(record, recurse=False)

    evolved_host(record, 1, {"current_closure": "other"})

    assert attrs.asdict(record, recurse=False) == before


def test_evolving_a_name_that_is_no_field_is_refused() -> None:
    """A change that would be lost is an error, as it is in attrs."""
    with pytest.raises(AttributeError):
        evolved_host(pending_host(), 1, {"no_such_field": 1})


def test_evolving_without_further_changes_leaves_the_other_fields() -> None:
    """Only what always changes is changed."""
    record = pending_host()

    assert evolved_host(record, 9) == attrs.evolve(record, last_event_seq=9)


def test_holding_values_gives_an_instance_that_is_immutable() -> None:
    """A class of one's own is made as a frozen one of attrs is: with its class, and closed."""
    held: Any = holder(FrozenMap, "_items")({"dns": 1})

    assert type(held) is FrozenMap
    assert held == FrozenMap({"dns": 1})
    assert hash(held) == hash(FrozenMap({"dns": 1}))
    with pytest.raises(AttributeError):
        held._items = {}
    with pytest.raises(AttributeError):
        del held._items


def test_holding_what_is_no_slot_or_of_a_class_that_can_be_changed_is_refused() -> None:
    """A value that would have no place, or could be replaced, is noticed when the function is made."""
    with pytest.raises(AssertionError):
        holder(FrozenMap, "no_such_slot")
    with pytest.raises(AssertionError):
        holder(Mutable, "number")
    with pytest.raises(AssertionError):
        holder(WithDict, "number")


def test_making_without_a_required_argument_is_refused() -> None:
    """The function takes what the class takes: the same names, the same defaults, no fewer."""
    assert made_result(*ARGUMENTS[:4], seq=1) == ProbeResult(*ARGUMENTS[:4], seq=1)
    with pytest.raises(TypeError):
        made_result(*ARGUMENTS)  # type: ignore[call-arg]


def test_making_without_what_a_factory_makes_makes_it_every_time() -> None:
    """A default that is made is made anew, and an argument is taken as it is."""
    made = maker(Collecting)

    assert made() == Collecting()
    assert made().names is not made().names
    assert made(["a"]) == Collecting(["a"])


@frozen
class Collecting:
    """Stores what a factory makes."""

    names: list[str] = field(factory=lambda: list[str]())


@frozen
class Counting:
    """Does more than to store."""

    names: tuple[str, ...] = ()
    length: int = field(default=attrs.Factory(lambda self: len(self.names), takes_self=True))


@frozen
class Converting:
    """Does more than to store."""

    number: int = field(converter=int)


@frozen
class Checking:
    """Does more than to store."""

    number: int = field(validator=attrs.validators.instance_of(int))


@frozen
class Following:
    """Does more than to store."""

    number: int

    def __attrs_post_init__(self) -> None:
        assert self.number


@attrs.define
class Mutable:
    """Is not frozen."""

    number: int


@frozen(slots=False)
class WithDict:
    """Has no slots."""

    number: int


@pytest.mark.parametrize("cls", [Converting, Checking, Following, Mutable, WithDict])
def test_a_class_that_does_more_than_to_store_is_refused(cls: Any) -> None:
    """What a draft would leave out, or cannot be, is noticed when the function is made."""
    with pytest.raises(AssertionError):
        maker(cls)
    with pytest.raises(AssertionError):
        evolver(cls)


def test_a_default_that_is_made_of_other_fields_is_refused() -> None:
    """A draft has no fields yet when its defaults are made."""
    with pytest.raises(AssertionError):
        maker(Counting)
