"""Packages that import a public name when it is first used (PEP 562).

So `import nixfleet` costs nothing, and a project that takes steps alone never makes the classes of a fleet file.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from sys import modules


def export_lazily(package: str, public: Sequence[str], names_by_module: Mapping[str, str]) -> None:
    """Give `package` a `__getattr__` that imports its names, and a `__dir__` that lists them.

    Set from here, not assigned there: a type checker would take a `__getattr__` that it sees for any name at all.
    public: its `__all__`. names_by_module: names, separated by spaces, by the full name of the module that has them.
    """
    module_of = {
        name: module for module, names in names_by_module.items() for name in names.split()
    }

    def get_attribute(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module_of[name]), name)
        setattr(modules[package], name, value)  # from now on an attribute like any other
        return value

    def directory() -> list[str]:
        return sorted(public)

    vars(modules[package]).update(__getattr__=get_attribute, __dir__=directory)
