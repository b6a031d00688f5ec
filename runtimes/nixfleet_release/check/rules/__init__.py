"""The rules for declarations, grouped by subject. Pure; `validate` applies all of them.

A rule takes a declaration and the paths that are known to be broken, and yields a problem for each violation. The rules
of `names` and `values` check single statements. Those of `waves` and `outcome` check combinations of statements, and
skip broken ones.
Source: docs/spec/declarations.md, Validation.
"""

from collections.abc import Callable, Collection, Iterator
from typing import TypeAlias

from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem

Rule: TypeAlias = Callable[[FleetDeclaration, Collection[str]], Iterator[Problem]]
