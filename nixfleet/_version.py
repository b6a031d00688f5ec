"""The version of this build: a release, or a state between releases that names its commit.

Run by the build as well (hatchling's `code` source), so it imports nothing of ours. In a checkout Git is asked each
time: what an editable install wrote down is outdated with the next commit. A source distribution has its version in
PKG-INFO, an archive of Git (`git archive`, the download of a forge) the commit that Git wrote into this file.
Rejected: a plugin that asks Git (another build requirement, and nothing without tags).
"""

import subprocess
from importlib import metadata
from pathlib import Path

RELEASE = "0.1.0"  # the release that is being prepared; its tag is v0.1.0

# Git fills these in when it makes an archive (.gitattributes).
ARCHIVED_COMMIT = "$Format:%h$"
ARCHIVED_REFS = "$Format:%D$"

ROOT = Path(__file__).resolve().parent.parent


def source_version() -> str:
    """Return the version of the sources around this file; `0.1.0.dev0+unknown` if nothing there tells."""
    return _of_checkout() or _of_sdist() or _of_archive() or f"{RELEASE}.dev0+unknown"


def version() -> str:
    """Return the version of the running code: of the checkout it is in, or of the installed distribution."""
    checkout = _of_checkout()
    if checkout is not None:
        return checkout
    try:
        return metadata.version("nixfleet")
    except metadata.PackageNotFoundError:
        return source_version()


def described(description: str) -> str:
    """Return the version that `git describe --tags --long --always --dirty` describes.

    At the release's clean tag: the release. Later than it: `.postN` with the commit. Anything else, also without any
    tag: `.dev0` with the commit. Changes that are not committed add `.dirty`.
    """
    clean = description.removesuffix("-dirty")
    dirty = ".dirty" if clean != description else ""
    tag, distance, commit = ("", *clean.rsplit("-", 2))[-3:] if "-g" in clean else ("", "", clean)
    commit = commit.removeprefix("g")
    if tag != f"v{RELEASE}":
        return f"{RELEASE}.dev0+g{commit}{dirty}"
    if distance == "0" and not dirty:
        return RELEASE
    return f"{RELEASE}.post{distance}+g{commit}{dirty}"


def _of_checkout() -> str | None:
    if not (ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(ROOT), "describe", "--tags", "--long", "--always", "--dirty"]
    try:
        done = subprocess.run(
            [*command, "--abbrev=9", "--match", f"v{RELEASE}"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no Git here, or no commit yet
    return described(done.stdout.strip())


def _of_sdist() -> str | None:
    try:
        lines = (ROOT / "PKG-INFO").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    return next((line[9:] for line in lines if line.startswith("Version: ")), None)


def _of_archive() -> str | None:
    if ARCHIVED_COMMIT.startswith("$"):
        return None
    refs = ARCHIVED_REFS.split(", ")
    return RELEASE if f"tag: v{RELEASE}" in refs else f"{RELEASE}.dev0+g{ARCHIVED_COMMIT}"


def __getattr__(name: str) -> str:
    """`__version__`, worked out when it is first asked for; the build asks for `source_version` alone."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return version()
