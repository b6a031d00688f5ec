"""Environment variables go before the file, and one that means nothing is a mistake."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nixfleet_runtime.config.options import (
    SCRIPT_VARIABLES,
    ConfigError,
    Loaded,
    Section,
    ValueSource,
    load,
    variable_of,
)

Config = tuple[str, int, float, bool]
LoadWith = Callable[[Mapping[str, str]], Loaded[Config]]


def read(root: Section) -> Config:
    listen = root.section("listen")
    return (
        root.text("name", "nobody"),
        listen.count("port", 80),
        listen.seconds("wait_seconds", 1),
        listen.flag("loud"),
    )


@pytest.fixture
def loaded(tmp_path: Path) -> LoadWith:
    """Loads a file that says `listen.port = 1` with the environment that is given."""
    file = tmp_path / "side.toml"
    file.write_text("[listen]\nport = 1\n", encoding="utf-8")
    return lambda environ: load(file, environ, read)


def test_a_variable_goes_before_the_file(loaded: LoadWith) -> None:
    """Every type can come from the environment; what it does not name stays."""
    found = loaded(
        {
            "NIXFLEET_NAME": "Ada",
            "NIXFLEET_LISTEN__PORT": "8_080",
            "NIXFLEET_LISTEN__LOUD": "true",
            "HOME": "/nowhere",
        }
    )
    assert found.config == ("Ada", 8080, 1.0, True)
    assert {option.path: option.source for option in found.options} == {
        "name": ValueSource.ENVIRONMENT,
        "listen.port": ValueSource.ENVIRONMENT,
        "listen.wait_seconds": ValueSource.DEFAULT,
        "listen.loud": ValueSource.ENVIRONMENT,
    }


@pytest.mark.parametrize("text", ["42", "true", "2026-01-01", '"Ada"', "[1]"])
def test_a_text_from_the_environment_is_taken_as_it_is(loaded: LoadWith, text: str) -> None:
    """A host may be called 42: where a text is wanted, nothing is parsed."""
    assert loaded({"NIXFLEET_NAME": text}).config[0] == text


def test_a_variable_goes_before_a_mistake_in_the_file(tmp_path: Path) -> None:
    """What is overridden is not looked at."""
    file = tmp_path / "side.toml"
    file.write_text("[listen]\nport = 'high'\n", encoding="utf-8")
    assert load(file, {"NIXFLEET_LISTEN__PORT": "3"}, read).config[1] == 3


@pytest.mark.parametrize("text", ["", "high", "1\nloud = true", "'1'", "0", "1.5"])
def test_a_variable_that_cannot_be_used_is_refused_by_its_name(loaded: LoadWith, text: str) -> None:
    """The problem stands where the value came from, not in the file."""
    with pytest.raises(ConfigError) as caught:
        loaded({"NIXFLEET_LISTEN__PORT": text})
    assert [it.path for it in caught.value.problems] == ["NIXFLEET_LISTEN__PORT"]


def test_an_unknown_variable_is_refused_with_the_known_ones(loaded: LoadWith) -> None:
    """Those of its section, if there is such a section; or else all."""
    with pytest.raises(ConfigError) as caught:
        loaded({"NIXFLEET_LISTEN__PROT": "1", "NIXFLEET_LISTEN_PORT": "1"})
    in_listen = "NIXFLEET_LISTEN__LOUD, NIXFLEET_LISTEN__PORT, NIXFLEET_LISTEN__WAIT_SECONDS"
    assert [(it.path, it.expected) for it in caught.value.problems] == [
        ("NIXFLEET_LISTEN_PORT", f"one of {in_listen}, NIXFLEET_NAME"),
        ("NIXFLEET_LISTEN__PROT", f"one of {in_listen}"),
    ]


def test_a_variable_in_small_letters_is_unknown(loaded: LoadWith) -> None:
    """Names of variables are told apart by case, as everywhere."""
    with pytest.raises(ConfigError) as caught:
        loaded({"NIXFLEET_listen__port": "1"})
    assert [it.path for it in caught.value.problems] == ["NIXFLEET_listen__port"]


def test_what_switch_scripts_are_told_is_no_option(loaded: LoadWith) -> None:
    """A side that a switch script starts inherits these, and starts."""
    assert loaded(dict.fromkeys(SCRIPT_VARIABLES, "x")).config == ("nobody", 1, 1.0, False)


def test_every_option_has_the_variable_that_its_place_names(loaded: LoadWith) -> None:
    """Sections and keys are joined by two underscores, for keys have single ones."""
    assert [option.variable for option in loaded({}).options] == [
        "NIXFLEET_NAME",
        "NIXFLEET_LISTEN__PORT",
        "NIXFLEET_LISTEN__WAIT_SECONDS",
        "NIXFLEET_LISTEN__LOUD",
    ]
    assert variable_of("a.b.c") == "NIXFLEET_A__B__C"


def test_what_operators_commands_read_is_not_taken_for_an_option(loaded: LoadWith) -> None:
    """Somebody may operate from the machine that the control plane runs on."""
    assert loaded({"NIXFLEET_OPERATOR_URL": "x"}).config == ("nobody", 1, 1.0, False)
