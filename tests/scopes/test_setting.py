"""What a kind of scoped setting is: what scopes declare, explained host by host."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

from nixfleet_proto.fleet import FleetHost
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.scopes.merge import FLEET, Declared, Scope, ScopeKind
from nixfleet_state_machine.scopes.setting import AnySetting, Clash, Explained, Setting, explain

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")

WEB, EU = Scope(ScopeKind.TAG, "web"), Scope(ScopeKind.TAG, "eu")
HOST = FleetHost("stable", ("web", "eu"))


def test_a_value_is_told_with_where_it_is_from_and_what_it_shadows() -> None:
    """Values are in the setting's words, keys begin with its name."""
    setting = Setting[int].declared(
        "limits", {FLEET: FrozenMap({"a": 1}), WEB: FrozenMap({"a": 2, "b": 3})}
    )

    assert setting.explain("web-01", HOST) == (
        Explained("limits.a", WEB, "2", (Declared(FLEET, "1"),)),
        Explained("limits.b", WEB, "3"),
    )


def test_what_two_tags_of_a_host_declare_is_a_clash_and_not_a_value() -> None:
    """Nobody guesses: the key is told with both scopes, and has no value."""
    setting = Setting[int].declared("limits", {EU: FrozenMap({"a": 1}), WEB: FrozenMap({"a": 1})})

    assert setting.clashes("web-01", HOST) == (Clash("limits.a", (EU, WEB)),)
    assert setting.explain("web-01", HOST) == ()


def test_settings_are_told_one_after_the_other() -> None:
    """All that a host lives by, in the order in which the settings are given."""
    settings: list[AnySetting] = [
        Setting[int].declared("b", {FLEET: FrozenMap({"x": 1})}),
        Setting[str].declared("a", {FLEET: FrozenMap({"": "it"})}),
    ]

    assert [(it.key, it.value) for it in explain(settings, "web-01", HOST)] == [
        ("b.x", "1"),
        ("a", "it"),
    ]


def test_the_setting_of_the_guide_is_explained_as_it_says() -> None:
    """What `docs/how-to/extending.md` shows runs, and prints what it says that it prints."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (output,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(program, "extending.md", "exec"), {})

    assert printed.getvalue() == output
