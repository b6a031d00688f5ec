"""Options that lead to a secret: `NAME_file`, a file of its owner alone, or `NAME_credential`, of the service manager.

Only the place is read here, never the secret.
"""

import os

from nixfleet_notify.ways.secret import CREDENTIALS, Secret, credential_path
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import private_file, readable_file
from nixfleet_runtime.documents.problems import quoted


def read_secret(section: Section, name: str) -> Secret | None:
    """Return the secret that `NAME_file` or `NAME_credential` leads to; `None`: there is none to use.

    Every problem is reported to `section`.
    """
    path = section.optional_path(f"{name}_file", private_file)
    credential = section.text(f"{name}_credential", "") if section.has(f"{name}_credential") else ""
    if not credential:
        return None if path is None else Secret(path)
    if path is not None:
        section.refuse(
            f"{name}_credential", "set twice", f"{name}_file or {name}_credential", "both"
        )
    if "/" in credential or credential.startswith("."):
        section.refuse(
            f"{name}_credential", "not a name", "the name of a credential", quoted(credential)
        )
        return None
    place = credential_path(credential, os.environ)
    if place is None:
        section.refuse(
            f"{name}_credential",
            "there are no credentials here",
            f"a service manager that sets {CREDENTIALS}",
            "none",
        )
        return None
    problem = readable_file(place)
    if problem is not None:
        section.refuse(f"{name}_credential", problem.message, problem.expected, problem.found)
    return Secret(place, is_credential=True)
