"""Both sides of a fleet on loopback as processes: what each is told goes into its file, what it says into another.

    control-plane.{toml,out}                                                of the control plane
    agent.{toml,out}, host.key, journal.db, manifests/, store/, profile     of an agent, in its host's directory

Whoever starts an agent has made the key and both directories.
"""

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from nixfleet_cli.demo.child import Child
from nixfleet_runtime.config.check import toml_text

Settings = Mapping[str, str | int | float | Path]
"""Options by their whole names, as in `store.path`."""

_AGENT: Settings = {
    "identity.key_file": "host.key",
    "journal.path": "journal.db",
    "manifests.cache_directory": "manifests",
    "activator.kind": "directory",
    "activator.store": "store",
    "activator.profile": "profile",
}


def control_plane_in(directory: Path, settings: Settings, arguments: Sequence[str] = ()) -> Child:
    """Return the control plane of `directory`, which has yet to be started. arguments: more of its command line."""
    config = _written(directory / "control-plane.toml", settings)
    return Child(
        "control plane",
        ("control-plane", "run", "--config", str(config), *arguments),
        directory / "control-plane.out",
        ready="control plane: http://",
    )


def agent_in(
    directory: Path, hostname: str, settings: Settings, arguments: Sequence[str] = ()
) -> Child:
    """Return the agent of the host in `directory`, which has yet to be started.

    settings: where its control plane is and whom to believe, and what is not as it is in every directory.
    """
    config = _written(directory / "agent.toml", {"hostname": hostname, **_AGENT, **settings})
    return Child(
        f"agent of {hostname}",
        ("agent", "run", "--config", str(config), *arguments),
        directory / "agent.out",
        ready="reports to",
    )


def free_port() -> int:
    """Return a port that nobody has: not 0, for a control plane that starts again must be found again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _written(file: Path, settings: Settings) -> Path:
    file.write_text("".join(f"{name} = {toml_text(value)}\n" for name, value in settings.items()))
    return file
