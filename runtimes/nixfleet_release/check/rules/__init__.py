"""The rules that a declaration must satisfy, by what they look at. Pure; `validate` asks all of them.

A rule takes a declaration and the paths that are known to be broken, and yields a problem for each
violation. Rules of `names` and `values` judge one statement by itself. Those of `waves` and `outcome`
judge what statements come to together; where one of these is broken they do not tell what follows.
Source: docs/spec/declarations.md, Validation.
"""

from collections.abc import Callable, Collection, Iterator
from typing import TypeAlias

from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem

Rule: TypeAlias = Callable[[FleetDeclaration, Collection[str]], Iterator[Problem]]
