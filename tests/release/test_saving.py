"""Saving a release, killed at every step it takes on the disk: a reader finds the earlier release or the later one.

The kill is simulated by Python's audit events, one for each call that reaches the file system: from the chosen one on,
all of them fail, so that no `finally` can put anything right. What is left is what a killed process leaves.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident

import pytest

from nixfleet_proto.signing import SigningKey
from nixfleet_release import CheckedFleet, Release, load_release, save_release, sign_release
from nixfleet_release.publish import save as saving

Checked = Callable[[str], CheckedFleet]

CLOSURES = {"web-01": "c1", "web-02": "c2", "db-01": "c3"}
STEPS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"})
STEPS_MAX = 200


class Killed(BaseException):
    """Nothing catches this, as nothing catches a kill."""


class Executioner:
    """Lets one thread take so many steps, and no further one."""

    def __init__(self) -> None:
        self._steps_left: int | None = None
        self._thread = 0
        sys.addaudithook(self._look)  # it stays for the life of the process, but asleep

    @contextmanager
    def after(self, steps: int) -> Iterator[None]:
        """Kill what runs in here after so many steps."""
        self._thread, self._steps_left = get_ident(), steps
        try:
            yield
        finally:
            self._steps_left = None

    def _look(self, event: str, _: tuple[object, ...]) -> None:
        if self._steps_left is None or event not in STEPS or get_ident() != self._thread:
            return
        if self._steps_left == 0:
            raise Killed
        self._steps_left -= 1


@pytest.fixture(scope="session")
def executioner() -> Executioner:
    return Executioner()


@pytest.fixture
def releases(checked: Checked, shop: str) -> tuple[Release, Release]:
    """Two releases of the shop, of which no file is the same."""
    fleet, key = checked(shop), SigningKey.generate()
    earlier, later = (
        sign_release(
            fleet,
            CLOSURES,
            channel_ref=ref,
            signed_at=datetime(2026, 5, 16, hour, tzinfo=UTC),
            key=key,
        )
        for hour, ref in enumerate(["a1b2", "c3d4"])
    )
    return earlier, later


@pytest.fixture(params=["exchanged", "moved"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On this file system, and on one where two directories cannot change places."""
    if request.param == "moved":
        monkeypatch.setattr(saving, "exchange", lambda one, other: False)
    return str(request.param)


def kills_until_saved(
    executioner: Executioner, place: Path, earlier: Release | None, later: Release
) -> Iterator[int]:
    """Save `later` over `earlier` once for each step that it takes, and be killed there."""
    for steps in range(STEPS_MAX):
        if earlier is not None:
            save_release(earlier, place)
        with suppress(Killed), executioner.after(steps):
            save_release(later, place)
            return
        yield steps
    raise AssertionError("saving took no end")


def test_saving_that_is_killed_leaves_one_release_or_the_other(
    tmp_path: Path, executioner: Executioner, releases: tuple[Release, Release], way: str
) -> None:
    """After a kill at any step the earlier or the later release is there, whole; and both do occur."""
    earlier, later = releases
    place = tmp_path / "place" / "releases"
    place.parent.mkdir()

    found = [load_release(place) for _ in kills_until_saved(executioner, place, earlier, later)]

    assert len(found) > 10
    assert set(found) == {earlier, later}
    assert found.index(later) == found.count(earlier), "once the later one is there, it stays"
    assert [it.name for it in place.parent.iterdir()] == ["releases"]


def test_saving_a_first_release_that_is_killed_leaves_it_or_none(
    tmp_path: Path, executioner: Executioner, releases: tuple[Release, Release]
) -> None:
    """Where no release was, a kill leaves none or the whole of it, and the next saving is not in its way."""
    _, later = releases
    place = tmp_path / "place" / "releases"
    place.parent.mkdir()
    found: list[Release] = []

    for _ in kills_until_saved(executioner, place, None, later):
        with suppress(FileNotFoundError):
            found.append(load_release(place))
            shutil.rmtree(place)

    assert set(found) <= {later}
    assert [it.name for it in place.parent.iterdir()] == ["releases"]


def test_two_who_save_at_once_take_turns(
    tmp_path: Path, releases: tuple[Release, Release], way: str
) -> None:
    """Of two that save to one directory, each saves a whole release."""
    place = tmp_path / "releases"
    with ThreadPoolExecutor(2) as both:
        for saved in [both.submit(save_release, it, place) for it in releases * 10]:
            saved.result()

    assert load_release(place) in releases
    assert [it.name for it in tmp_path.iterdir() if it.name.startswith(".")] == []
