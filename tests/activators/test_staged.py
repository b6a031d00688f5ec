"""The activators of compose files, bootc and RAUC, with programs that do as those document."""

import json
import os
import shutil
from pathlib import Path

import pytest

from nixfleet_agent.activation.activator import (
    ClosureNotHere,
    Prepared,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
)
from nixfleet_agent.activation.command import CommandActivator
from tests.activators.scripts import activator_of, put_program

pytestmark = pytest.mark.anyio

OLD, NEW = (f"registry.example/os@sha256:{digit * 64}" for digit in "ab")
# `bootc status --json` has an entry for each of booted, staged and rollback, or null. Source: bootc-status(8).
BOOTC = """
cd {place}
case $1 in
status) cat status.json ;;
switch)
    [ ! -e away ] || exit 1
    echo "switch $3" >> ran
    jq --arg name "${{3%@*}}" --arg digest "${{3#*@}}" \
        '.status.staged = {{image: {{image: {{image: $name}}, imageDigest: $digest}}}}' status.json > new
    mv new status.json ;;
rollback) echo rollback >> ran; jq '.status.staged = .status.rollback' status.json > new; mv new status.json ;;
esac
"""


class BootcMachine:
    """A machine that boots images. It boots when the test says so."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.put(booted=OLD)
        put_program(directory / "bin", "bootc", BOOTC.format(place=directory))
        path = f"{directory / 'bin'}:{os.environ['PATH']}"
        self.activator: CommandActivator = activator_of(
            "bootc.sh", {"PATH": path}, directory, others=("rollback",)
        )

    def put(self, **entries: str) -> None:
        """Let bootc know these images."""
        status = {
            name: None if name not in entries else {"image": self._image(entries[name])}
            for name in ("booted", "staged", "rollback")
        }
        (self.directory / "status.json").write_text(json.dumps({"status": status}))

    def ran(self) -> list[str]:
        """Return what bootc was ordered to change."""
        file = self.directory / "ran"
        return file.read_text().splitlines() if file.exists() else []

    def _image(self, image: str) -> dict[str, object]:
        name, _, digest = image.partition("@")
        return {"image": {"image": name}, "imageDigest": digest}


@pytest.fixture
def bootc(tmp_path: Path) -> BootcMachine:
    if shutil.which("jq") is None:
        pytest.skip("install jq")
    return BootcMachine(tmp_path)


async def test_an_image_of_a_system_is_staged_for_the_next_boot(bootc: BootcMachine) -> None:
    """The machine still runs the older one, and after the boot the newer."""
    assert await bootc.activator.switch(NEW) == SwitchDeferred("the image of the system")
    assert await bootc.activator.current() == OLD

    bootc.put(booted=NEW, rollback=OLD)

    assert await bootc.activator.current() == NEW
    assert await bootc.activator.switch(NEW) == SwitchCompleted(NEW, 0)
    assert bootc.ran() == [f"switch {NEW}"]


async def test_the_image_that_booted_before_is_gone_back_to_without_a_registry(
    bootc: BootcMachine,
) -> None:
    """It is at hand; any other is fetched."""
    bootc.put(booted=NEW, rollback=OLD)
    (bootc.directory / "away").touch()

    outcome = await bootc.activator.rollback(OLD)

    assert outcome == RollbackFinished(NEW, 100, outcome.stderr_tail)
    assert "rolls back at the next boot" in outcome.stderr_tail
    assert bootc.ran() == ["rollback"]


async def test_an_image_that_cannot_be_fetched_is_waited_for(bootc: BootcMachine) -> None:
    """Nothing was staged, so nothing has failed."""
    (bootc.directory / "away").touch()

    assert isinstance(await bootc.activator.switch(NEW), ClosureNotHere)


# `rauc status --detailed --output-format=shell` numbers the slots. Source: rauc(1).
RAUC = """
cd {place}
case "$1 $2" in
"status --detailed") cat status ;;
"status "*) echo "$2 $3" >> ran ;;
"info "*) grep -q '^signed' "$2" ;;
"install "*) echo "install $(basename "$2")" >> ran; [ ! -e full ] || {{ echo "no space left" >&2; exit 1; }} ;;
esac
"""


class RaucMachine:
    """A machine with two slots. It boots when the test says so."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.put(booted="1.0", other="0.9")
        self.source = directory / "source"
        self.source.mkdir()
        put_program(directory / "bin", "rauc", RAUC.format(place=directory))
        settings = {
            "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
            "SOURCE": str(self.source),
            "PLACE": str(directory / "place"),
        }
        self.activator: CommandActivator = activator_of(
            "rauc.sh", settings, directory, others=("rollback", "answered")
        )

    def put(self, *, booted: str, other: str) -> None:
        """Let the slots have these versions."""
        (self.directory / "status").write_text(
            "RAUC_SYSTEM_BOOTED_BOOTNAME='B'\n"
            f"RAUC_SLOT_STATE_1='inactive'\nRAUC_SLOT_STATUS_BUNDLE_VERSION_1='{other}'\n"
            f"RAUC_SLOT_STATE_2='booted'\nRAUC_SLOT_STATUS_BUNDLE_VERSION_2='{booted}'\n"
        )

    def ran(self) -> list[str]:
        """Return what RAUC was ordered to change."""
        file = self.directory / "ran"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def rauc(tmp_path: Path) -> RaucMachine:
    return RaucMachine(tmp_path)


async def test_a_bundle_goes_into_the_other_slot_and_is_good_once_answered(
    rauc: RaucMachine,
) -> None:
    """Until the control plane has answered from it, the boot loader may fall back."""
    (rauc.source / "1.1.raucb").write_text("signed")
    assert await rauc.activator.current() == "1.0"

    assert await rauc.activator.switch("1.1") == SwitchDeferred("the slot")
    rauc.put(booted="1.1", other="1.0")
    await rauc.activator.answered()

    assert await rauc.activator.current() == "1.1"
    assert rauc.ran() == ["install 1.1.raucb", "mark-good booted"]


async def test_the_bundle_in_the_other_slot_is_gone_back_to_without_its_file(
    rauc: RaucMachine,
) -> None:
    """The slot boots again; nothing is installed."""
    (rauc.source / "0.9.raucb").write_text("signed")

    outcome = await rauc.activator.rollback("0.9")

    assert outcome.exit_code == 100
    assert rauc.ran() == ["mark-active other"]


async def test_a_bundle_that_is_not_signed_is_never_installed(rauc: RaucMachine) -> None:
    """It is fetched again when it is ordered again: what was published may have been mended."""
    (rauc.source / "1.1.raucb").write_text("tampered")
    assert isinstance(await rauc.activator.switch("1.1"), SwitchFailed)
    assert rauc.ran() == []

    (rauc.source / "1.1.raucb").write_text("signed")
    assert await rauc.activator.prepare("1.1") == Prepared("1.1")


async def test_a_bundle_that_is_not_published_yet_is_waited_for(rauc: RaucMachine) -> None:
    """Its file is not there."""
    assert isinstance(await rauc.activator.prepare("1.1"), ClosureNotHere)


async def test_an_installation_that_fails_says_why(rauc: RaucMachine) -> None:
    """RAUC writes the other slot only, so the older bundle still runs."""
    (rauc.source / "1.1.raucb").write_text("signed")
    (rauc.directory / "full").touch()

    outcome = await rauc.activator.switch("1.1")

    assert isinstance(outcome, SwitchFailed)
    assert outcome.stderr_tail == "no space left"
    assert await rauc.activator.current() == "1.0"


COMPOSE = """
cd {place}
echo "$IMAGE $*" >> ran
case $1 in
pull) [ ! -e away ] ;;
config) printf 'web\\ndb\\n' ;;
ps) cat up ;;
esac
"""


async def test_a_compose_file_gets_the_image_and_is_confirmed_service_by_service(
    tmp_path: Path,
) -> None:
    """The image is in `.env`, beside what was there; a service that is not up fails the switch."""
    put_program(tmp_path, "compose", COMPOSE.format(place=tmp_path))
    (tmp_path / ".env").write_text(f"PORT=80\nIMAGE={OLD}\n")
    (tmp_path / "up").write_text("db\nweb\n")
    put_program(tmp_path, "engine", f'grep -qxF "$3" {tmp_path}/images')
    (tmp_path / "images").write_text(f"{OLD}\n")
    settings = {
        "ENGINE": str(tmp_path / "engine"),
        "COMPOSE": str(tmp_path / "compose"),
        "PROJECT": str(tmp_path),
    }
    activator = activator_of("compose.sh", settings, tmp_path, others=("confirm",))

    assert await activator.switch(NEW) == SwitchCompleted(NEW, 0)
    assert (tmp_path / ".env").read_text() == f"PORT=80\nIMAGE={NEW}\n"
    (tmp_path / "up").write_text("db\n")
    outcome = await activator.rollback(OLD)

    assert outcome.exit_code == 1
    assert "expected these up: db\nweb; found db" in outcome.stderr_tail
    orders = [line.split()[1] for line in (tmp_path / "ran").read_text().splitlines()]
    assert orders == ["pull", "up", "config", "ps", "up", "config", "ps"]


async def test_a_compose_image_without_a_digest_is_refused(tmp_path: Path) -> None:
    """A tag can be moved."""
    activator = activator_of("compose.sh", {"PROJECT": str(tmp_path)}, tmp_path)
    outcome = await activator.prepare("registry.example/shop:latest")
    assert isinstance(outcome, SwitchFailed)
    assert "expected an image with its digest" in outcome.stderr_tail
