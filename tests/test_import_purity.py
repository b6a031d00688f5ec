"""The pure packages stay pure: what they import, and what they use, is checked here.

Two checks, because each sees what the other cannot. A fresh interpreter in which every other
third-party package is refused proves what is really imported, however the import is written. A
walk over the source finds the clock, chance and I/O of the standard library: attrs itself loads
some of them, so a look at `sys.modules` would prove nothing.
"""

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

STATE_MACHINE = "nixfleet_state_machine"
FRONT_DOOR = "nixfleet"
PROTO = "nixfleet_proto"
ALLOWED = ("attr", "attrs", "typing_extensions")

# Not the core: test support needs Hypothesis, and the two doors to bytes need their libraries.
EXEMPT = (f"{STATE_MACHINE}.testing", f"{PROTO}.codec", f"{PROTO}.signing")

FORBIDDEN_MODULES = ("asyncio", "logging", "os", "random", "socket", "time")
FORBIDDEN_CALLS = (
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
)

# Runs in the fresh interpreter, which starts without `site`: no `.pth` file has loaded anything.
# A refused import is noted as well as raised, for an `except ImportError` would hide it. What is
# not installed fails by itself and is not noted: the standard library asks for modules of other
# platforms (`_wmi`) and of Jython (`org`), and lives without them.
IMPORT_ALL = """
import importlib, json, sys
from importlib.machinery import PathFinder

modules, allowed, paths = json.loads(sys.argv[1])
sys.path += paths
refused = []


class OnlyAllowed:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in allowed or top in sys.stdlib_module_names or not PathFinder.find_spec(top):
            return None
        refused.append(name)
        raise ModuleNotFoundError(f"{name} is not allowed here", name=name)


sys.meta_path.insert(0, OnlyAllowed())
for module in modules:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in refused:
            raise
print(json.dumps(refused))
"""


def test_importing_every_pure_module_without_other_libraries_succeeds() -> None:
    """The pure modules import with attrs and typing-extensions as the only libraries."""
    modules = [*_pure_modules(STATE_MACHINE), *_pure_modules(PROTO)]

    assert _refused_imports(modules, packages=(STATE_MACHINE, PROTO)) == []


def test_importing_the_core_loads_the_data_that_a_step_takes_and_no_more() -> None:
    """Importing `step` makes no class of a fleet or a manifest, and loads neither codec nor signing."""
    source = (
        f"import json, sys; from {STATE_MACHINE} import step; print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", source], stdout=subprocess.PIPE, check=True)
    loaded: list[str] = json.loads(done.stdout)

    assert {name.removeprefix(f"{PROTO}.") for name in loaded if name.startswith(f"{PROTO}.")} == {
        "agent_event",
        "checked",
        "drafting",
        "errors",
        "frozen_map",
        "ids",
        "json_value",
        "lazy",
        "members",
        "policy",
        # What a wave of a policy may wait for.
        "steering",
        "steering.guards",
    }


def test_importing_a_module_that_wants_another_library_is_noticed(tmp_path: Path) -> None:
    """A library other than the allowed ones is refused, though it is installed."""
    _plant(tmp_path, "import pytest")

    assert _refused_imports(["planted.module"], packages=("planted",), at=tmp_path) == ["pytest"]


def test_importing_a_module_that_hides_the_refusal_is_noticed(tmp_path: Path) -> None:
    """A library wanted inside `try ... except ImportError` is refused all the same."""
    _plant(tmp_path, "try:\n    import pytest\nexcept ImportError:\n    pass")

    assert _refused_imports(["planted.module"], packages=("planted",), at=tmp_path) == ["pytest"]


def test_reading_every_state_machine_module_finds_no_clock_chance_or_io() -> None:
    """No module of the state machine uses the clock, chance, the environment, a log or I/O."""
    sources = _pure_modules(STATE_MACHINE)

    assert [
        f"{module}:{use}"
        for module, file in sources.items()
        for use in _forbidden_uses(file.read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize(
    ("source", "use"),
    [
        ("import time", "time"),
        ("import os.path as p", "os.path"),
        ("from os import environ", "os.environ"),
        ("def f():\n    import random", "random"),
        ("from datetime import datetime\ndatetime.now()", "datetime.datetime.now"),
        ("import datetime\ndatetime.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("import datetime as d\nd.date.today()", "datetime.date.today"),
        ("from datetime import datetime as dt\nclock = dt.now", "datetime.datetime.now"),
    ],
)
def test_reading_a_module_that_uses_the_world_names_the_use_and_its_line(
    source: str, use: str
) -> None:
    """Each way of reaching the clock, chance or I/O is found, at the line where it stands."""
    assert list(_forbidden_uses(source)) == [f"{len(source.splitlines())}: {use}"]


def test_reading_a_module_with_harmless_namesakes_finds_nothing() -> None:
    """Names that merely look like the clock are left alone: a field `now`, the type `time`."""
    source = "from datetime import datetime, time\nfrom .clock import os\nview.now\ndatetime.min"

    assert list(_forbidden_uses(source)) == []


def test_listing_the_pure_modules_leaves_out_what_is_exempt() -> None:
    """The check looks at the packages themselves and skips the exempt modules alone."""
    modules = {**_pure_modules(STATE_MACHINE), **_pure_modules(PROTO)}

    assert {STATE_MACHINE, PROTO} <= modules.keys()
    assert not [module for module in modules if module.startswith(EXEMPT)]


def _pure_modules(package: str) -> dict[str, Path]:
    """Return the modules of `package` that must be pure, each with its file."""
    root = _directory_of(package)
    modules = {}
    for file in sorted(root.joinpath(package).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not any(name == exempt or name.startswith(f"{exempt}.") for exempt in EXEMPT):
            modules[name] = file
    return modules


def _refused_imports(
    modules: Iterable[str], *, packages: tuple[str, ...], at: Path | None = None
) -> list[str]:
    """Import `modules` in a fresh interpreter; return what they wanted and did not get."""
    roots = {at or _directory_of(package) for package in packages}
    paths = [*roots, *(_directory_of(library) for library in ALLOWED)]
    argument = json.dumps([list(modules), [*ALLOWED, *packages], [str(path) for path in paths]])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, argument],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused: list[str] = json.loads(done.stdout)
    return refused


def _directory_of(name: str) -> Path:
    """Return the directory that must be on the path for `name` to be importable."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.origin is not None, f"{name} has no __init__.py"
    file = Path(spec.origin)
    return file.parent.parent if file.name == "__init__.py" else file.parent


def _plant(directory: Path, source: str) -> None:
    package = directory / "planted"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "module.py").write_text(source, encoding="utf-8")


def _forbidden_uses(source: str) -> Iterator[str]:
    """Yield `line: what` for each use of the world in `source`, whatever it is called there."""
    tree = ast.parse(source)
    imported = {alias: full for _, alias, full in _imports(tree)}
    for line, _, full in _imports(tree):
        if full.partition(".")[0] in FORBIDDEN_MODULES:
            yield f"{line}: {full}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            full = _full_name(node, imported)
            if full in FORBIDDEN_CALLS:
                yield f"{node.lineno}: {full}"


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield (line, name in this module, full name) for each absolute import."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for name in names:
                    # `import os.path` binds `os`; `import os.path as p` binds the whole.
                    yield node.lineno, name.asname or name.name.partition(".")[0], name.name
            case ast.ImportFrom(module=str(module), names=names, level=0):
                for name in names:
                    yield node.lineno, name.asname or name.name, f"{module}.{name.name}"
            case _:
                pass


def _full_name(node: ast.expr, imported: dict[str, str]) -> str:
    """Return the dotted name that `node` stands for; empty when it is no imported name."""
    match node:
        case ast.Name(id=name):
            return imported.get(name, "")
        case ast.Attribute(value=value, attr=attribute):
            return f"{_full_name(value, imported)}.{attribute}"
        case _:
            return ""
