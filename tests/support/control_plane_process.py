"""A control plane as a process of its own: configured by files, started, killed, started again."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nixfleet_control_plane.messages.inputs import ManifestsUpdated
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.trust import Verified
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release.publish.save import save_release
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.releases.directory import Release
from tests.engines.releases import Layout, Publisher

ENDS_WITHIN_SECONDS = 30
CONFIG = """
[store]
path = "control-plane.db"
[listen]
port = 0
[trust]
file = "trust.json"
[releases]
directory = "releases"
poll_seconds = 0.05
[ticks]
plan_seconds = 0.2
"""


class Premises:
    """A directory with all that a control plane is told, and CI that publishes there."""

    def __init__(self, directory: Path, publisher: Publisher) -> None:
        self.directory = directory
        self.publisher = publisher
        self.database = directory / "control-plane.db"
        self.config = directory / "control-plane.toml"
        self.config.write_text(CONFIG)
        (directory / "trust.json").write_bytes(encode_trust_root(publisher.trust))
        (directory / "releases").mkdir()

    def publish(self, channel_ref: str, layout: Layout | None = None) -> ManifestsUpdated:
        """Let a release lie where the control plane looks."""
        now = SystemClock().now()
        release = self.publisher.release(layout or Layout(), channel_ref, now)
        manifests = {it.value.rollout_id: _artefact(it) for it in release.manifests}
        save_release(
            Release(_artefact(release.fleet), FrozenMap(manifests)), self.directory / "releases"
        )
        return release

    def lose_database(self) -> None:
        """Nothing is left of what it knew."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def running(self, *options: str) -> Iterator["Living"]:
        """Start a control plane; if it still runs at the end it is killed."""
        command = (sys.executable, "-m", "nixfleet_cli", "control-plane", "run")
        with (
            (self.directory / "stderr").open("ab") as stderr,
            subprocess.Popen(
                (*command, "--config", str(self.config), *options),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            ) as process,
        ):
            try:
                yield Living(process)
            finally:
                process.kill()

    def said(self) -> str:
        """Return all that was said on standard error."""
        return (self.directory / "stderr").read_text()


class Living:
    """A process that has begun. url: where it listens; empty if it ended before it did."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.pid = process.pid
        self.url = process.stdout.readline().removeprefix("control plane: ").strip()

    def kill(self) -> None:
        """SIGKILL, and it is gone."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self._process.terminate()
        return self.ended()

    def ended(self) -> int:
        """Return the exit code, once it ends by itself."""
        return self._process.wait(ENDS_WITHIN_SECONDS)


def _artefact(verified: Verified[object]) -> SignedArtefact:
    return SignedArtefact(verified.artefact, verified.signature)
