"""Laws of all public data: it can be pickled, copied, compared, pasted into a test, and written as JSON."""

import copy
import datetime
import inspect
import json
import pickle
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nixfleet
from nixfleet import FleetView, FrozenMap, RolloutId, Verified
from nixfleet_proto import codec
from nixfleet_runtime.storage import record_codec
from nixfleet_state_machine.planner.errors import UnknownHost, UnknownRollout
from nixfleet_testing.pauses import pause, resume

CLASSES: tuple[type[Any], ...] = tuple(
    value
    for name in nixfleet.__all__
    if inspect.isclass(value := getattr(nixfleet, name))
    and (attrs.has(value) or value in (FleetView, FrozenMap, RolloutId))
    # The first has no strategy; the second is made by a check of a signature alone, and by no repr.
    and value not in (nixfleet.ValueProblem, Verified)
)
# What someone who pastes a repr has imported.
NAMES = {name: getattr(nixfleet, name) for name in nixfleet.__all__} | {"datetime": datetime}


def data(*but: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of any public class."""
    return st.sampled_from([cls for cls in CLASSES if cls not in but]).flatmap(st.from_type)


HEALTH_CHECKS = [st.from_type(cls) for cls in CLASSES if cls in get_args(nixfleet.HealthCheck)]


@given(data())
def test_data_survives_pickling(value: Any) -> None:
    """A pickled value comes back equal, of the same class."""
    back = pickle.loads(pickle.dumps(value))

    assert back == value
    assert type(back) is type(value)


@given(data())
def test_a_deep_copy_is_equal(value: Any) -> None:
    """A deep copy is an equal value."""
    assert copy.deepcopy(value) == value


@given(data(), data())
def test_data_can_be_compared_with_anything(one: Any, other: Any) -> None:
    """Comparing two values of any classes answers and does not raise."""
    assert (one == other) is (other == one)
    assert one != object()


@given(data(FleetView))
def test_the_repr_of_data_is_the_python_that_makes_it(value: Any) -> None:
    """A repr, pasted into a test that imports the public names, makes an equal value of the same class."""
    back = eval(repr(value), dict(NAMES))

    assert back == value
    assert type(back) is type(value)


@given(data(FleetView, FrozenMap, RolloutId))
def test_the_repr_of_a_record_leaves_out_what_has_its_default(value: Any) -> None:
    """A record of 23 fields shows those that were set."""
    left_out = [
        field.name
        for field in attrs.fields(type(value))
        if field.default is None and getattr(value, field.name) is None
    ]

    assert [name for name in left_out if f"({name}=None" in repr(value)] == []


@given(data(FleetView, nixfleet.SignedArtefact))
def test_data_can_be_written_as_json(value: Any) -> None:
    """`json.dumps` takes what `to_json` returns, for all data except raw bytes."""
    text = json.dumps(nixfleet.to_json(value), allow_nan=False)

    assert json.loads(text) == nixfleet.to_json(value)


SPELT_BY_THE_CODEC: tuple[tuple[str, Any, Any], ...] = (
    ("event", nixfleet.AgentEvent, codec.encode_event),
    ("envelope", nixfleet.AgentEventEnvelope, codec.encode_envelope),
    ("event batch", nixfleet.EventBatch, codec.encode_event_batch),
    ("dispatch", nixfleet.Dispatch, codec.encode_dispatch),
    ("fleet", nixfleet.FleetResolved, codec.encode_fleet),
    ("manifest", nixfleet.RolloutManifest, codec.encode_manifest),
    ("trust file", nixfleet.TrustRoot, codec.encode_trust_root),
    ("evidence", nixfleet.Evidence, codec.encode_evidence),
    ("nonces", nixfleet.BootstrapNonces, codec.encode_bootstrap_nonces),
    ("revocations", nixfleet.Revocations, codec.encode_revocations),
    ("enrollment request", nixfleet.EnrollRequest, codec.encode_enroll_request),
    ("token file", nixfleet.SignedToken, codec.encode_signed_token),
    ("host record", nixfleet.HostRolloutState, record_codec.encode_host_record),
    ("rollout record", nixfleet.RolloutRecord, record_codec.encode_rollout_record),
    ("rollout event", nixfleet.RolloutEvent, record_codec.encode_rollout_event),
    ("plan action", nixfleet.PlanAction, record_codec.encode_plan_action),
)


@pytest.mark.parametrize(
    ("form", "encode"),
    [case[1:] for case in SPELT_BY_THE_CODEC],
    ids=[case[0] for case in SPELT_BY_THE_CODEC],
)
@given(drawn=st.data())
def test_to_json_spells_data_as_the_codec_does(
    form: Any, encode: Any, drawn: st.DataObject
) -> None:
    """Whoever reads what `to_json` gave reads what the codec would have written."""
    value = drawn.draw(st.from_type(form))

    assert nixfleet.to_json(value) == json.loads(encode(value))


@given(st.dictionaries(st.text(min_size=1), st.one_of(HEALTH_CHECKS), max_size=3))
def test_to_json_spells_health_checks_as_the_codec_does(checks: dict[str, Any]) -> None:
    """Also a mapping of records is spelt as the codec spells it."""
    value = FrozenMap(checks)

    assert nixfleet.to_json(value) == json.loads(codec.encode_health_checks(value))


@given(st.from_type(FleetView), st.from_type(FleetView))
def test_views_are_equal_if_they_hold_the_same_data(one: FleetView, other: FleetView) -> None:
    """A view differs from one with another pause."""
    assert (one == other) is (other == one)
    held = copy.deepcopy(one)
    pause(held, "a channel of its own", "why")

    assert held != one
    resume(held, "a channel of its own")
    assert held == one


@given(st.from_type(FleetView))
def test_a_copied_view_plans_the_same(view: FleetView) -> None:
    """Whatever makes the next plan cheap is copied too: the copy and the original decide alike."""
    now = datetime.datetime(2026, 5, 16, tzinfo=datetime.UTC)
    copied = pickle.loads(pickle.dumps(view))

    assert nixfleet.plan_next(copied, {}, now) == nixfleet.plan_next(view, {}, now)
    assert nixfleet.replan(copied, {}, now) == nixfleet.replan(view, {}, now)


@pytest.mark.parametrize(
    "error",
    [
        UnknownRollout("stable@a1", ["stable@b2"]),
        UnknownHost("web-01", None, ["web-02"]),
        nixfleet.AlreadyOpen("stable@a1"),
        nixfleet.InvalidRolloutId("stable", "expected an '@'"),
        nixfleet.InvalidValue("step", (nixfleet.ValueProblem("now", "a time", "None"),)),
    ],
)
def test_errors_survive_pickling(error: Exception) -> None:
    """An error from a worker process arrives with its text and its attributes."""
    back = pickle.loads(pickle.dumps(error))

    assert str(back) == str(error)
    assert vars(back) == vars(error)
