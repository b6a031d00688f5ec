"""The recipes of docs/how-to/being-told.md: its commands are run, its programs tell, and its receiver verifies."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nixfleet_notify.config import load_notify_config, read_notify_config
from nixfleet_notify.delivery.answers import DELIVERED
from nixfleet_notify.delivery.notices import sample
from nixfleet_notify.messages.message import Origin, notice_message
from nixfleet_notify.messages.signing import secret_of, signed_headers
from nixfleet_notify.ways.program import Program
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_runtime.config.options import load_content
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_units.units import unit_of
from tests.docs.pages import DOCS, blocks_of

PAGE = (DOCS / "how-to" / "being-told.md").read_text("utf-8")
BLOCKS = tuple(blocks_of(PAGE))
SHELL = [block.text for block in BLOCKS if block.language == "sh"]
TOML = [block.text for block in BLOCKS if block.language == "toml"]
(PYTHON,) = (block.text for block in BLOCKS if block.language == "python")
PROGRAMS = [text for text in SHELL if text.startswith("#!")]
COMMANDS = [text for text in SHELL if not text.startswith("#!")]
CURL = '#!/bin/sh\ncat > "$TOLD"\nprintf "%s\\n" "$@" > "$TOLD.arguments"\n'
MESSAGE = notice_message(sample(SystemClock().now()), Origin("https://fleet.example.org", "pager"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a trust file, and `nixfleet` in PATH."""
    trust = TrustRoot(KeySlot(SigningKey.generate().public_key))
    (tmp_path / "trust.json").write_bytes(encode_trust_root(trust))
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "nixfleet"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m nixfleet_cli "$@"\n')
    command.chmod(0o755)
    return tmp_path


def _run(place: Path, script: str) -> str:
    environment = {**os.environ, "PATH": f"{place}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["/bin/sh", "-ec", script], cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_setup_of_the_guide_makes_a_configuration_that_can_be_used(place: Path) -> None:
    """Key, operator, secret and file, as they stand there; then the commands that show what a notifier is doing."""
    key, secret, started, looking = COMMANDS
    _run(place, key)
    _run(place, secret)
    (place / "notify.toml").write_text(TOML[0])

    check, test, run = started.splitlines()
    assert "hooks.pager.severity" in _run(place, check)
    assert (test.split()[:3], run.split()[:3]) == (
        ["nixfleet", "notify", "test"],
        ["nixfleet", "notify", "run"],
    )
    assert "the control plane has never answered" in _run(place, looking)
    operators = json.loads((place / "trust.json").read_text())["operators"]
    assert [(it["name"], it["role"]) for it in operators] == [("notifier", "read")]
    config = load_notify_config(place / "notify.toml", {})
    (hook,) = config.hooks.values()
    assert hook.name == "pager"


def test_the_hook_of_a_chat_can_be_configured(place: Path) -> None:
    """The second piece of configuration continues the first."""
    _run(place, COMMANDS[0])
    _run(place, COMMANDS[1])
    content = tomllib.loads("\n".join(TOML))
    loaded = load_content(place / "notify.toml", content, {}, read_notify_config)
    assert set(loaded.config.hooks) == {"pager", "chat"}


@pytest.mark.anyio
@pytest.mark.parametrize("number", [0, 1])
async def test_a_program_of_the_guide_tells_a_chat(
    number: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a curl that writes down what it would send; the address of the chat is in none of its arguments."""
    program, curl, told = place / "tell-chat", place / "bin" / "curl", place / "told"
    program.write_text(PROGRAMS[number])
    curl.write_text(CURL.replace("$TOLD", str(told)))
    for file in (program, curl):
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place))

    assert await Program("chat", (str(program),), 30).send(MESSAGE, 1) == DELIVERED

    said = told.read_text()
    text = said if number == 0 else json.loads(said)["text"]
    assert text.startswith("this is a sample")
    assert f"{place}/chat" in (place / "told.arguments").read_text()


def test_the_receiver_of_the_guide_pages_once(place: Path) -> None:
    """It verifies what a notifier signs, and takes an id once."""
    _run(place, COMMANDS[1])
    secret = (place / "pager.secret").read_text()
    paged = list[str]()
    names: dict[str, object] = {"page": paged.append}
    exec(PYTHON, names)
    receive = names["receive"]
    assert callable(receive)
    body, taken = MESSAGE.body.encode(), set[str]()

    for _ in range(2):
        now = SystemClock().now()
        receive(
            secret.strip(), signed_headers(MESSAGE.id, body, now, [secret_of(secret)]), body, taken
        )

    assert len(paged) == 1


def test_the_credentials_of_the_unit_are_those_that_the_guide_configures(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rights that systemd shows for them: mode 0440, since an access list lets the service's user read."""
    _run(place, COMMANDS[0])
    _run(place, COMMANDS[1])
    made = {
        "notifier.key": "notifier.key",
        "pager.secret": "pager.secret",
        "chat.curl": "pager.secret",
    }
    given = place / "credentials"
    given.mkdir(mode=0o700)
    for name, source in re.findall(r"--credential (\S+):(\S+)", PAGE):
        file = given / name
        file.write_bytes((place / made[Path(source).name]).read_bytes())
        file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    text = TOML[0]
    for option in ("key", "secret"):
        (name,) = re.findall(rf'`{option}_credential = "(.+?)"` instead', PAGE)
        text = re.sub(rf"{option}_file = .+", f'{option}_credential = "{name}"', text)
    (place / "notify.toml").write_text(text)

    config = load_notify_config(place / "notify.toml", {})

    key = config.control_plane.key
    loaded = SigningKey.load(key.path, directory_is_private=key.is_credential)
    assert loaded.public_key == SigningKey.load(place / "notifier.key").public_key


def test_the_unit_of_the_guide_has_the_directory_that_the_page_names() -> None:
    """The state directory of the unit."""
    assert "StateDirectory=nixfleet-notify\n" in unit_of("notify").text
    assert 'directory = "/var/lib/nixfleet-notify"' in PAGE
