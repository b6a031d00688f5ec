"""The activator of container images, with real podman and a real registry on loopback. Skipped where they are not."""

import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pytest

from nixfleet_agent.activation.activator import (
    ClosureNotHere,
    Prepared,
    RollbackFinished,
    SwitchCompleted,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.activation.command import CommandActivator
from nixfleet_proto.health_check import HEALTH_CHECKS_PATH
from tests.activators.scripts import activator_of, set_up

NEEDED = {
    "podman": "podman",
    "docker-registry": "docker-registry",
    "/usr/sbin/runc": "runc",
    "/bin/busybox": "busybox-static",
}
_ABSENT = [package for program, package in NEEDED.items() if shutil.which(program) is None]
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(bool(_ABSENT), reason=f"install {' '.join(_ABSENT)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="containers of a test need root"),
]
# What makes a container run where control groups and limits belong to somebody else.
RUN = "--network=host --cgroupns=host --pid=host --ulimit nofile=1024:1024 --ulimit nproc=1000:1000"
REGISTRY = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {directory}}}}}
http: {{addr: '127.0.0.1:{port}'}}
"""


class Registry:
    """A registry with images of a shop, and an engine whose storage is a test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.engine = (
            f"podman --storage-driver=vfs --root {directory}/images --runroot {directory}/run "
            "--cgroup-manager=cgroupfs --events-backend=none --runtime=/usr/sbin/runc"
        )
        config = directory / "registry.yml"
        config.write_text(REGISTRY.format(directory=directory / "registry", port=self.port))
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def push(self, name: str, *command: str) -> str:
        """Push an image that runs a command of busybox, and return its name with its digest."""
        layer = BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            archive.add("/bin/busybox", "bin/busybox")
            checks = b"{}"
            entry = tarfile.TarInfo(HEALTH_CHECKS_PATH)
            entry.size = len(checks)
            archive.addfile(entry, BytesIO(checks))
        words = ", ".join(f'"{word}"' for word in ("/bin/busybox", *command))
        tag = f"127.0.0.1:{self.port}/shop:{name}"
        self.run(
            "import", "--quiet", "--change", f"CMD [{words}]", "-", tag, given=layer.getvalue()
        )
        digest = self.directory / "digest"
        self.run("push", "--quiet", "--tls-verify=false", "--digestfile", str(digest), tag)
        self.run("rmi", tag)
        return f"127.0.0.1:{self.port}/shop@{digest.read_text()}"

    def run(self, *arguments: str, given: bytes = b"") -> str:
        """Run the engine; return what it printed."""
        ended = subprocess.run(
            [*self.engine.split(), *arguments], input=given, capture_output=True, check=False
        )
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout.decode()

    def why_nothing_runs(self) -> str | None:
        """Return why no container runs on this machine, `None` if one does."""
        image = self.push("tried", "true")
        command = [*self.engine.split(), "run", "--rm", "--tls-verify=false", *RUN.split(), image]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return ended.stderr.strip() if ended.returncode else None

    def end(self) -> None:
        """End the registry; images that are here stay."""
        self._process.kill()
        self._process.wait()

    def _wait(self) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                urlopen(f"http://127.0.0.1:{self.port}/v2/", timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("the registry does not answer")


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry, and nothing that runs when the test has ended."""
    # podman takes no longer path than 50 characters.
    with TemporaryDirectory(prefix="shop-", dir="/tmp") as place:
        registry = Registry(Path(place))
        try:
            reason = registry.why_nothing_runs()
            if reason is not None:
                pytest.skip(f"no container runs here: {reason}")
            yield registry
        finally:
            registry.run("rm", "--all", "--force", "--time=0")
            registry.end()


@pytest.fixture
def activator(tmp_path: Path, registry: Registry) -> CommandActivator:
    """The activator of a machine that runs the images of the registry."""
    settings = {
        "ENGINE": registry.engine,
        "NAME": "shop",
        "PLACE": str(tmp_path / "place"),
        "OPTIONS": RUN,
        "PULL": "--tls-verify=false",
        "SETTLE_SECONDS": "1",
    }
    files = str(tmp_path / "files" / "{closure}")
    return activator_of("container.sh", settings, tmp_path, files=files, others=("confirm",))


async def test_an_image_replaces_another_and_comes_back(
    activator: CommandActivator, registry: Registry
) -> None:
    """The container that runs is that of the image; its health checks are taken out of it."""
    old, new = registry.push("old", "sleep", "600"), registry.push("new", "sleep", "700")
    await activator.prepare(old)
    set_up(activator, old)

    assert await activator.switch(new) == SwitchCompleted(new, 0)
    assert "sleep 700" in registry.run("ps", "--no-trunc", "--format", "{{.Command}}")
    assert (activator.root_of(new) / HEALTH_CHECKS_PATH).read_text() == "{}"
    registry.end()
    assert await activator.rollback(old) == RollbackFinished(old, 0)
    assert "sleep 600" in registry.run("ps", "--no-trunc", "--format", "{{.Command}}")


async def test_an_image_that_ends_at_once_is_not_confirmed(
    activator: CommandActivator, registry: Registry
) -> None:
    """The container exits; the switch has failed, and the way back starts the older image."""
    old, bad = registry.push("old", "sleep", "600"), registry.push("bad", "false")
    await activator.prepare(old)
    set_up(activator, old)

    outcome = await activator.switch(bad)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.phase is SwitchPhase.CONFIRM
    assert await activator.rollback(old) == RollbackFinished(old, 0)


async def test_an_image_that_the_registry_has_not_is_waited_for(
    activator: CommandActivator, registry: Registry
) -> None:
    """So is one while the registry is away; an image without a digest is refused."""
    old = registry.push("old", "sleep", "600")
    missing = f"{old.partition('@')[0]}@sha256:{'0' * 64}"

    assert isinstance(await activator.prepare(missing), ClosureNotHere)
    tagged = await activator.prepare(f"127.0.0.1:{registry.port}/shop:old")
    registry.end()

    assert isinstance(tagged, SwitchFailed)
    assert "expected an image with its digest" in tagged.stderr_tail
    assert isinstance(await activator.prepare(old), ClosureNotHere)
    assert not isinstance(await activator.prepare(missing), Prepared)
