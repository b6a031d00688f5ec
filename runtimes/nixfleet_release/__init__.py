"""The release side: from a fleet declaration to signed files. No network, no clock, no agent or control plane.

    check ─▶ CheckedFleet ─ name_closures ─▶ closures by host
                  └───────── release ──────────────┴──▶ a directory of signed files ─ load_release ─▶

`check` reads TOML; `Fleet().check()` checks a declaration made in Python; any other source makes a `FleetDeclaration`
and calls `check_declaration`. `import_fleet` reads a fleet that was resolved elsewhere. The intermediate steps are in
`build.resolve` and `build.project`. `docs/how-to/declaring-a-fleet.md` is the user documentation.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from nixfleet_proto.signing import Signer
from nixfleet_release.build.closures import (
    LeadsOutside,
    add_closures,
    name_closures,
    render_health_checks,
)
from nixfleet_release.build.pins import closures_of_pinned, read_built
from nixfleet_release.build.store_paths import NamedClosures, closures_at, read_store_paths
from nixfleet_release.builder import (
    Fleet,
    Wave,
    on_channel,
    on_host,
    on_tag,
    rest,
    wave,
)
from nixfleet_release.check.checked import (
    CheckedFleet,
    ExpiredPin,
    Shadowing,
    check,
    check_declaration,
)
from nixfleet_release.check.import_resolved import ImportedFleet, import_fleet
from nixfleet_release.errors import AdmissionError, DeclarationError
from nixfleet_release.publish.save import save_release
from nixfleet_release.sign.admission import Admission, read_admission
from nixfleet_release.sign.release import sign_release, sign_resolved
from nixfleet_release.written.declaration import (
    BudgetDeclaration,
    FleetDeclaration,
    PolicyDeclaration,
    SelectorDeclaration,
    WaveDeclaration,
    WaveLimit,
    WaveOrder,
)
from nixfleet_runtime.documents.problems import Problem
from nixfleet_runtime.releases.directory import (
    IncompleteRelease,
    NotARelease,
    Release,
    load_release,
)

__all__ = [
    "Admission",
    "AdmissionError",
    "BudgetDeclaration",
    "CheckedFleet",
    "DeclarationError",
    "ExpiredPin",
    "Fleet",
    "FleetDeclaration",
    "ImportedFleet",
    "IncompleteRelease",
    "LeadsOutside",
    "NamedClosures",
    "NotARelease",
    "PolicyDeclaration",
    "Problem",
    "Release",
    "SelectorDeclaration",
    "Shadowing",
    "Wave",
    "WaveDeclaration",
    "WaveLimit",
    "WaveOrder",
    "add_closures",
    "check",
    "check_declaration",
    "closures_at",
    "closures_of_pinned",
    "import_fleet",
    "load_release",
    "name_closures",
    "on_channel",
    "on_host",
    "on_tag",
    "read_admission",
    "read_built",
    "read_store_paths",
    "release",
    "render_health_checks",
    "rest",
    "save_release",
    "sign_release",
    "sign_resolved",
    "wave",
]


def release(
    checked: CheckedFleet,
    closures: Mapping[str, str],
    directory: Path,
    *,
    channel_ref: str,
    signed_at: datetime,
    key: Signer,
    ci_commit: str | None = None,
    author: str | None = None,
    admission: Admission | None = None,
) -> Release:
    """Build, sign and save a release in `directory`, replacing any earlier one, and return it.

    closures: by host. author: the operator who wrote it, and so does not approve it.
    Raises: DeclarationError, InvalidRolloutId, NotARelease, OSError; `directory` is unchanged then.
    """
    signed = sign_release(
        checked,
        closures,
        channel_ref=channel_ref,
        signed_at=signed_at,
        key=key,
        ci_commit=ci_commit,
        author=author,
        admission=admission,
    )
    save_release(signed, directory)
    return signed
