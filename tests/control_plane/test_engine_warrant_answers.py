"""How many warrants are in one answer: an agent can take it, and no order is kept from it by others."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_runtime.http.client import ANSWER_BYTES_MAX
from tests.control_plane.test_engine_warrants import GRANTED, R1, RECALL, converged, relay, told
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout
from tests.engines.scratch import scratch_directory
from tests.engines.scripted_host import ScriptedHost

HOST = "web-03"
LONG = 220


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory on which commits are quick."""
    with scratch_directory() as directory:
        yield directory


def order(control_plane: ScriptedControlPlane, order_id: str, hosts: tuple[str, ...] = ()) -> None:
    """Each lasts longer than the one before: the same order again would be nothing to do."""
    longer = timedelta(minutes=int(order_id.removeprefix("order-")))
    expires_at = RECALL.expires_at + longer
    warrant = evolve(RECALL, order_id=order_id, hosts=hosts, expires_at=expires_at)
    assert control_plane.command(relay(warrant)).refusal is None


def orders(control_plane: ScriptedControlPlane, host: str = HOST) -> list[str]:
    return [it.warrant.order_id for it in told(control_plane, host)]


def large(scratch: Path, count: int) -> tuple[ScriptedControlPlane, Layout]:
    """A fleet of which one host soaks, and the names are long."""
    names = tuple(f"node-{number:05d}.{'r' * LONG}.example.org" for number in range(count))
    layout = evolve(GRANTED, waves=(names,))
    control_plane = ScriptedControlPlane(scratch, layout)
    control_plane.publish("r1")
    ScriptedHost(control_plane, R1, names[0]).soak()
    return control_plane, layout


def test_an_order_that_a_host_refuses_keeps_no_later_one_from_it(scratch: Path) -> None:
    """Eight fit into an answer; the ninth is first in the next one, and then it begins with the oldest again."""
    control_plane = converged(scratch)
    for number in range(9):
        order(control_plane, f"order-{number}")
    first = [f"order-{number}" for number in range(8)]

    assert orders(control_plane) == first
    assert orders(control_plane) == ["order-8", *first[:7]]
    assert orders(control_plane)[0] == "order-7"


def test_orders_that_all_fit_are_told_oldest_first_each_time(scratch: Path) -> None:
    """Nothing turns where nothing has to wait."""
    control_plane = converged(scratch)
    for number in range(8):
        order(control_plane, f"order-{number}")

    assert orders(control_plane) == orders(control_plane) == [f"order-{it}" for it in range(8)]


def test_an_answer_has_no_more_bytes_of_warrants_than_an_agent_takes(scratch: Path) -> None:
    """Three long orders: two come at once, and the third with the next answer."""
    control_plane, layout = large(scratch, 1200)
    for number in range(3):
        order(control_plane, f"order-{number}", layout.hosts)
    host = layout.hosts[0]

    answer = told(control_plane, host)
    assert sum(len(encode_signed_warrant(it)) for it in answer) < ANSWER_BYTES_MAX
    assert [it.warrant.order_id for it in answer] == ["order-0", "order-1"]
    assert orders(control_plane, host)[0] == "order-2"


def test_a_warrant_that_fits_into_no_answer_is_refused(scratch: Path) -> None:
    """The operator is told to sign several."""
    control_plane, layout = large(scratch, 3400)
    refusal = control_plane.command(relay(evolve(RECALL, hosts=layout.hosts))).refusal

    assert "expected a warrant of at most 786432 bytes" in str(refusal)
    assert not control_plane.state.warrants
