"""The colours of states are told apart by people who see no red, no green, or no colour, and on both papers."""

import math
import re
from itertools import combinations
from pathlib import Path

import pytest

STYLE = Path("runtimes/nixfleet_ui/page/style/base.css").read_text()
STATES = ("pending", "deferred", "activating", "soaking", "converged", "failed", "reverted")

Colour = tuple[float, float, float]

# Machado, Oliveira and Fernandes 2009, severity 1.0, in linear RGB.
SIGHTS = {
    "all": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}


def _colour(name: str, scheme: int) -> Colour:
    found = re.search(rf"--{name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", STYLE)
    assert found, name
    text = found[scheme + 1]
    red, green, blue = (_linear(int(text[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return red, green, blue


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _seen(colour: Colour, sight: str) -> Colour:
    rows = (sum(m * c for m, c in zip(row, colour, strict=True)) for row in SIGHTS[sight])
    red, green, blue = (min(1.0, max(0.0, value)) for value in rows)
    return red, green, blue


def _lab(colour: Colour) -> Colour:
    red, green, blue = colour
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    fx, fy, fz = (
        value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z)
    )
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def _cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def _difference(one: Colour, other: Colour) -> float:
    """Return CIEDE2000 of two Lab colours. Source: Sharma, Wu and Dalal 2005."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean_c7 = ((math.hypot(a1, b1) + math.hypot(a2, b2)) / 2) ** 7
    g = 0.5 * (1 - math.sqrt(mean_c7 / (mean_c7 + 25**7)))
    a1, a2 = a1 * (1 + g), a2 * (1 + g)
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = math.degrees(math.atan2(b1, a1)) % 360, math.degrees(math.atan2(b2, a2)) % 360
    dh = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    h = (h1 + h2 + (360 if abs(h1 - h2) > 180 else 0)) / 2 if c1 * c2 else h1 + h2
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * _cos(h - 30)
        + 0.24 * _cos(2 * h)
        + 0.32 * _cos(3 * h + 6)
        - 0.2 * _cos(4 * h - 63)
    )
    sl = 1 + 0.015 * (lm - 50) ** 2 / math.sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    rt = -2 * math.sqrt(cm**7 / (cm**7 + 25**7))
    rt *= math.sin(math.radians(60 * math.exp(-(((h - 275) / 25) ** 2))))
    dl, dc = (l2 - l1) / sl, (c2 - c1) / sc
    dhh = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(dh / 2)) / sh
    return math.sqrt(dl**2 + dc**2 + dhh**2 + rt * dc * dhh)


def _distance(one: str, other: str, scheme: int, sight: str) -> float:
    return _difference(
        _lab(_seen(_colour(one, scheme), sight)), _lab(_seen(_colour(other, scheme), sight))
    )


def _luminance(name: str, scheme: int) -> float:
    red, green, blue = _colour(name, scheme)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_converged_and_failed_are_far_apart(scheme: int, sight: str) -> None:
    """ΔE 20 at least: the two that must never be mistaken for one another."""
    assert _distance("converged", "failed", scheme, sight) >= 20


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_any_two_states_are_told_apart(scheme: int, sight: str) -> None:
    """ΔE 10 at least, and each has a mark besides."""
    near = {
        pair: round(_distance(*pair, scheme, sight), 1)
        for pair in combinations(STATES, 2)
        if _distance(*pair, scheme, sight) < 10
    }
    assert near == {}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_a_mark_is_seen_on_its_colour(scheme: int, state: str) -> None:
    """Contrast 3 at least, as for graphics in WCAG 2.2."""
    one, other = sorted((_luminance(state, scheme), _luminance(f"{state}-mark", scheme)))
    assert (other + 0.05) / (one + 0.05) >= 3
