"""The public surface: what the three top packages export, how fast, and that their lists agree."""

import ast
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import nixfleet
import nixfleet_proto
import nixfleet_state_machine
from nixfleet_state_machine import effects

PACKAGES = (nixfleet, nixfleet_proto, nixfleet_state_machine, effects)
LAZY = (nixfleet_proto, nixfleet_state_machine)
# Libraries that make an import slow; the data and the machines need attrs and come when they are used.
HEAVY = ("attr", "attrs", "cattrs", "orjson", "nacl", "anyio", "subprocess", "importlib.metadata")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_exported_name_resolves_and_is_exported_once(package: ModuleType) -> None:
    """`__all__` has no duplicate, and each name in it is an attribute."""
    assert len(package.__all__) == len(set(package.__all__))
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


@pytest.mark.parametrize("package", [nixfleet, *LAZY], ids=lambda package: package.__name__)
def test_dir_is_the_public_api(package: ModuleType) -> None:
    """`dir()` shows the exported names and nothing else, before and after they are used."""
    assert dir(package) == sorted(package.__all__)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_exported_class_and_function_has_a_docstring(package: ModuleType) -> None:
    """The API reference is made of docstrings; attrs writes none by itself."""
    values = {name: getattr(package, name) for name in package.__all__}
    undocumented = [
        name
        for name, value in values.items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and not value.__doc__
    ]

    assert undocumented == []


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_checkers_and_the_interpreter_are_given_the_same_names(package: ModuleType) -> None:
    """The imports for type checkers, the table of lazy imports and `__all__` name the same things."""
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))

    for_checkers = {
        alias.name: f"{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module not in ("typing", "nixfleet_proto.lazy")
        for alias in node.names
    }
    [table] = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    lazily = {
        name: module for module, names in ast.literal_eval(table).items() for name in names.split()
    }

    assert lazily == for_checkers
    assert sorted(lazily) == sorted(package.__all__)


def test_the_front_door_has_the_names_of_both_packages() -> None:
    """`nixfleet` offers every name of the pure packages, and its version."""
    both = {*nixfleet_proto.__all__, *nixfleet_state_machine.__all__}

    assert set(nixfleet.__all__) == {*both, "__version__"}
    assert all(
        getattr(nixfleet, n) is getattr(nixfleet_state_machine, n)
        for n in nixfleet_state_machine.__all__
    )


def test_the_effects_module_has_every_effect_of_both_machines() -> None:
    """An applier needs one import: no effect class is defined that `effects` does not hand on."""
    defined = {
        name
        for module in ("host", "rollout")
        for name, value in vars(import_module(f"nixfleet_state_machine.{module}.effect")).items()
        if inspect.isclass(value) and value.__module__.endswith(f"{module}.effect")
    }

    assert defined <= set(effects.__all__)
    assert set(effects.__all__) <= set(nixfleet_state_machine.__all__)


@pytest.mark.parametrize("name", ["nixfleet", "nixfleet_proto", "nixfleet_state_machine"])
def test_importing_a_top_package_loads_nothing_heavy(name: str) -> None:
    """Not even attrs is loaded before a name is used."""
    source = f"import json; import {name}; print(json.dumps([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", _on_path(source)], stdout=subprocess.PIPE, check=True
    )
    loaded: list[str] = json.loads(done.stdout)

    assert [module for module in loaded if module in HEAVY] == []


@pytest.mark.parametrize("package", [nixfleet, *LAZY], ids=lambda package: package.__name__)
def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    """A misspelt name fails as it does in any module, so that `hasattr` and the import error work."""
    with pytest.raises(
        AttributeError, match=f"module '{package.__name__}' has no attribute 'stepp'"
    ):
        _ = package.stepp


def test_every_error_of_the_pure_packages_has_one_base() -> None:
    """`except NixfleetError` catches whatever the packages raise on purpose."""
    errors = [
        value
        for name in nixfleet.__all__
        if inspect.isclass(value := getattr(nixfleet, name)) and issubclass(value, Exception)
    ]

    assert len(errors) > 10
    assert [error for error in errors if not issubclass(error, nixfleet.NixfleetError)] == []


def test_errors_of_the_codec_and_of_signing_share_the_base() -> None:
    """The two packages that know bytes raise errors of the same family."""
    for name in ("codec", "signing"):
        module = import_module(f"nixfleet_proto.{name}")
        errors = [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, Exception)
        ]

        assert errors
        assert all(issubclass(error, nixfleet.NixfleetError) for error in errors)


def _on_path(source: str) -> str:
    root = Path(nixfleet.__file__).parent.parent
    return f"import sys; sys.path.insert(0, {str(root)!r}); {source}"
