"""What a selector means, and how it is written on one line."""

import pytest

from nixfleet_proto.fleet import FleetHost, Selector
from nixfleet_state_machine.scopes.selector import canonical, is_empty, matches, select, summary

WEB = FleetHost(channel="stable", tags=("web", "eu"))
DB = FleetHost(channel="stable", tags=("db", "us"))
OFFICE = FleetHost(channel="office")
HOSTS = {"web-01": WEB, "db-01": DB, "office-01": OFFICE}


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        (Selector(all=True), ("db-01", "office-01", "web-01")),
        (Selector(hosts=("web-01", "office-01")), ("office-01", "web-01")),
        (Selector(channel="stable"), ("db-01", "web-01")),
        (Selector(tags=("web", "eu")), ("web-01",)),
        (Selector(tags=("web", "us")), ()),
        (Selector(tags_any=("web", "us")), ("db-01", "web-01")),
    ],
)
def test_one_part_given_means_the_hosts_that_satisfy_it(
    selector: Selector, meant: tuple[str, ...]
) -> None:
    """Each part by itself selects by name, by channel, by all of its tags or by any of them."""
    assert select(selector, HOSTS) == meant


def test_several_parts_given_must_all_hold() -> None:
    """A host is meant only when it satisfies every part that is given."""
    selector = Selector(hosts=("web-01", "db-01"), channel="stable", tags_any=("eu", "de"))

    assert select(selector, HOSTS) == ("web-01",)


def test_all_with_another_part_is_narrowed_by_it() -> None:
    """`all` does not widen what another part says."""
    assert select(Selector(all=True, tags=("db",)), HOSTS) == ("db-01",)


def test_no_part_given_means_nobody() -> None:
    """An empty selector selects no host."""
    assert is_empty(Selector())
    assert not any(matches(Selector(), name, host) for name, host in HOSTS.items())


def test_a_host_that_there_is_not_is_not_selected() -> None:
    """Naming an unknown host selects nobody, and not everybody either."""
    assert select(Selector(hosts=("web-09",)), HOSTS) == ()


def test_order_and_duplicates_do_not_tell_selectors_apart() -> None:
    """Selectors that differ in order and duplicates only are equal in canonical form."""
    one = Selector(tags=("web", "eu", "web"), hosts=("b", "a"))
    other = Selector(tags=("eu", "web"), hosts=("a", "b", "b"))

    assert canonical(one) == canonical(other)
    assert summary(one) == summary(other)


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (Selector(all=True), "all"),
        (Selector(tags=("web",)), "tags:web"),
        (Selector(channel="stable", tags_any=("us", "eu")), "channel:stable & tags_any:eu,us"),
        (Selector(hosts=("b", "a"), tags=("web",)), "hosts:a,b & tags:web"),
        (Selector(), "nobody"),
    ],
)
def test_a_selector_is_summed_up_on_one_line(selector: Selector, text: str) -> None:
    """The summary names every given part, in one order, with its names sorted."""
    assert summary(selector) == text
