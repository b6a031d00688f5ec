"""Closures that are no files here: images, commits, versions, each called by the name that the hosts' commands take.

What such a name stands for is checked by the command that fetches it: a digest and a commit say so themselves.
"""

from collections.abc import Mapping
from pathlib import Path

from nixfleet_release.build.store_paths import texts_by_host
from nixfleet_release.check.checked import CheckedFleet
from nixfleet_release.errors import DeclarationError
from nixfleet_runtime.documents.problems import Problem, at, quoted, unknown
from nixfleet_runtime.releases.closure_names import CLOSURE_NAME_EXPECTED, is_closure_name


def read_names(checked: CheckedFleet, file: Path) -> Mapping[str, str]:
    """Return the names of closures by host from the JSON object in `file`.

    Raises: DeclarationError, with every host that is not declared and every name that a command cannot take; OSError.
    """
    names = texts_by_host(file, "not names by host", '{"web-01": "registry.example/shop@sha256:…"}')
    problems = [
        unknown(at("closures", host), "host", host, checked.health_checks)
        for host in sorted(names.keys() - checked.health_checks.keys())
    ]
    problems += [
        Problem(at("closures", host), "no name", CLOSURE_NAME_EXPECTED, quoted(name))
        for host, name in sorted(names.items())
        if not is_closure_name(name)
    ]
    if problems:
        raise DeclarationError(problems)
    return names
