"""When hosts were heard, and how far their clocks are off."""

from datetime import UTC, datetime, timedelta

from nixfleet_control_plane.http.contacts import HEARD_RECENTLY, Contact, Contacts

NOW = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
CREATED = int(NOW.timestamp())


def test_the_last_request_of_a_host_says_how_far_its_clock_is_off() -> None:
    """Ahead is positive, behind negative; a host that was not heard has none."""
    contacts = Contacts(NOW)
    contacts.heard("web-01", CREATED - 7, NOW)
    contacts.heard("web-01", CREATED + 3, NOW)
    contacts.heard("web-02", CREATED - 9, NOW)
    assert contacts.last("web-01") == Contact(NOW, 3)
    assert contacts.last("web-02") == Contact(NOW, -9)
    assert contacts.last("web-03") is None


def test_the_worst_clock_is_that_of_a_host_heard_recently() -> None:
    """A host that was switched off long ago does not hold an alarm up."""
    contacts = Contacts(NOW)
    assert contacts.skew_seconds_max(NOW) == 0
    contacts.heard("web-01", CREATED - 50, NOW)
    contacts.heard("web-02", CREATED + 4, NOW + timedelta(minutes=1))
    assert contacts.skew_seconds_max(NOW + HEARD_RECENTLY) == 56
    late = NOW + HEARD_RECENTLY + timedelta(minutes=2)
    contacts.heard("web-02", int(late.timestamp()) + 4, late)
    assert contacts.skew_seconds_max(late) == 4


def test_hosts_that_were_not_heard_for_three_minutes_are_counted_as_silent() -> None:
    """To the minute; one that is heard again is silent no more, however long it was."""
    contacts = Contacts(NOW)
    assert contacts.silent(NOW) == 0
    for name in ("web-01", "web-02"):
        contacts.heard(name, CREATED, NOW)
    contacts.heard("web-03", CREATED, NOW + timedelta(minutes=3))
    assert contacts.silent(NOW + timedelta(minutes=3)) == 0
    assert contacts.silent(NOW + timedelta(minutes=4)) == 2

    late = NOW + timedelta(hours=2)
    assert contacts.silent(late) == 3
    contacts.heard("web-01", CREATED, late)
    assert contacts.silent(late) == 2
    assert contacts.silent(late + timedelta(hours=1)) == 3
