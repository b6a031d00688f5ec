"""A check of kind `home`: declared as every other, refused where it would say nothing, warned about under `halt`."""

from collections.abc import Callable

import pytest

from nixfleet_proto.health_check import HomeProbe, address_of
from nixfleet_release import CheckedFleet, Fleet, Problem
from nixfleet_state_machine.scopes.merge import FLEET

Checked = Callable[[str], CheckedFleet]
Problems = Callable[[str], tuple[Problem, ...]]

HOME = '[health_checks.home]\nkind = "home"\n'
ROLLS_BACK = '[policies.canary-first]\non_health_failure = "rollback-and-halt"\n'


def test_a_look_home_is_declared_as_other_checks(checked: Checked, shop: str) -> None:
    """In TOML and in Python."""
    text = f'{HOME}max_silence_secs = 240\nsecond_address = "gateway:443"\n'

    declared = checked(text + shop).declaration.health_checks[FLEET]
    built = Fleet().health_check("home", HomeProbe(240, "gateway:443")).host("a", channel="c")
    built = built.channel("c", policy="p").policy("p")

    assert declared == {"home": HomeProbe(240, "gateway:443")}
    assert built.check().declaration.health_checks[FLEET] == declared


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("max_silence_secs = 119", "max_silence_secs"),
        ("connect_timeout_secs = 0", "connect_timeout_secs"),
        ("run_once = true", "run_once"),
        ('second_address = "gateway"', "second_address"),
        ('second_address = "http://gateway:443"', "second_address"),
    ],
)
def test_a_look_home_that_would_say_nothing_is_refused_with_its_place(
    problems: Problems, shop: str, field: str, key: str
) -> None:
    """Each mistake is a problem of its own."""
    (problem,) = problems(f"{HOME}{field}\n{shop}")

    assert problem.path == f"health_checks.home.{key}"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("gateway.example.org:443", ("gateway.example.org", 443)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("2001:db8::1:443", None),
        ("gateway", None),
        (":443", None),
        ("gateway:0", None),
        ("gateway:65536", None),
        ("gateway:https", None),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int] | None) -> None:
    """An IPv6 address is in brackets, as in a URL."""
    assert address_of(text) == address


def test_a_look_home_under_halt_is_warned_of(checked: Checked, shop: str) -> None:
    """The host would fail, and stay cut off."""
    (warning,) = checked(HOME + shop).warnings

    assert str(warning).startswith("policies.canary-first.on_health_failure: halt, but hosts")


@pytest.mark.parametrize("text", [HOME + ROLLS_BACK, f'{HOME}mode = "observe"\n'])
def test_a_look_home_that_can_go_back_or_decides_nothing_is_not_warned_of(
    checked: Checked, shop: str, text: str
) -> None:
    """Both do what they say."""
    assert checked(text + shop).warnings == ()
