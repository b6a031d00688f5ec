"""The version tells a release from a state between releases."""

import re
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

import nixfleet
from nixfleet import _version
from nixfleet._version import RELEASE, described

GIT = shutil.which("git")
needs_git = pytest.mark.skipif(GIT is None, reason="git is not installed")


@pytest.mark.parametrize(
    ("description", "version"),
    [
        (f"v{RELEASE}-0-g1a2b3c4d5", RELEASE),
        (f"v{RELEASE}-0-g1a2b3c4d5-dirty", f"{RELEASE}.post0+g1a2b3c4d5.dirty"),
        (f"v{RELEASE}-14-g1a2b3c4d5", f"{RELEASE}.post14+g1a2b3c4d5"),
        ("1a2b3c4d5", f"{RELEASE}.dev0+g1a2b3c4d5"),
        ("1a2b3c4d5-dirty", f"{RELEASE}.dev0+g1a2b3c4d5.dirty"),
        ("v0.0.9-3-g1a2b3c4d5", f"{RELEASE}.dev0+g1a2b3c4d5"),
    ],
)
def test_a_description_by_git_becomes_a_version(description: str, version: str) -> None:
    """Only the clean tag is the release; everything else names its commit."""
    assert described(description) == version


def test_the_version_is_a_public_name() -> None:
    """`nixfleet.__version__` is the release that is prepared, or a state of it."""
    assert re.match(rf"{re.escape(RELEASE)}($|\.dev|\.post)", nixfleet.__version__)


@needs_git
def test_a_checkout_is_told_from_its_release_by_its_commit(tmp_path: Path) -> None:
    """A commit, a change on top of it, and the tag give three versions."""
    at = _sources(tmp_path)
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "first")
    committed = _version_of(at)
    at.write_text(at.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    changed = _version_of(at)
    _git(tmp_path, "commit", "-qam", "second")
    _git(tmp_path, "tag", f"v{RELEASE}")
    released = _version_of(at)

    assert re.fullmatch(rf"{RELEASE}\.dev0\+g[0-9a-f]{{9,}}", committed)
    assert changed == f"{committed}.dirty"
    assert released == RELEASE


@needs_git
def test_an_archive_of_git_knows_its_commit(tmp_path: Path) -> None:
    """`git archive` writes the commit into the file, so a download without .git has it."""
    repository = tmp_path / "repository"
    repository.mkdir()
    _sources(repository)
    _git(repository, "init", "-q")
    _git(repository, "add", ".")
    _git(repository, "commit", "-qm", "first")
    tar = tmp_path / "archive.tar"
    _git(repository, "archive", "--prefix=archive/", "-o", str(tar), "HEAD")
    shutil.unpack_archive(tar, tmp_path)

    version = _version_of(tmp_path / "archive/nixfleet/_version.py")

    assert re.fullmatch(rf"{RELEASE}\.dev0\+g[0-9a-f]{{7,}}", version)


def test_a_source_distribution_has_the_version_it_was_made_with(tmp_path: Path) -> None:
    """PKG-INFO wins where there is no checkout."""
    at = _sources(tmp_path)
    (tmp_path / "PKG-INFO").write_text("Name: nixfleet\nVersion: 9.8.7\n", encoding="utf-8")

    assert _version_of(at) == "9.8.7"


def test_sources_of_unknown_origin_say_so(tmp_path: Path) -> None:
    """Copied files have no commit, and do not pass for a release."""
    assert _version_of(_sources(tmp_path)) == f"{RELEASE}.dev0+unknown"


def _sources(root: Path) -> Path:
    """Copy what matters into `root`; return the copied file."""
    ours = Path(_version.__file__)
    at = root / "nixfleet/_version.py"
    at.parent.mkdir(parents=True)
    at.write_text(ours.read_text(encoding="utf-8"), encoding="utf-8")
    (root / ".gitattributes").write_text("nixfleet/_version.py export-subst\n", encoding="utf-8")
    return at


def _version_of(at: Path) -> str:
    """Load the file by its path, as the build does."""
    sys.modules.pop("loaded_version", None)
    spec = util.spec_from_file_location("loaded_version", at)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    version: str = module.source_version()
    return version


def _git(at: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=at, check=True, capture_output=True)
