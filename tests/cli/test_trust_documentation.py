"""`docs/how-to/keys-and-trust.md` is true: what it shows, run in an empty directory in its order, works."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from nixfleet_cli.main import main
from nixfleet_proto.codec import decode_evidence
from nixfleet_release import read_admission

GUIDE = (Path(__file__).parents[2] / "docs" / "how-to" / "keys-and-trust.md").read_text(
    encoding="utf-8"
)


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return found


def run(line: str) -> str:
    """Do what a shell would do with a line of the page, in this process: a new one for each takes too long."""
    line, _, target = line.partition(" > ")
    given = b""
    if line.startswith("printf "):
        text, _, line = line.partition(" | ")
        given = shlex.split(text)[1].encode()
    command, _, awk = line.partition(" | ")
    words = shlex.split(command)
    if words[0] == "mkdir":
        Path(words[-1]).mkdir()
        return ""
    assert words[0] == "nixfleet", line
    done = CliRunner().invoke(main, words[1:], input=given)
    assert done.exit_code == 0, f"{line}: {done.output}"
    if awk:
        (public,) = (
            it.split()[2] for it in done.stdout.splitlines() if it.startswith("public key")
        )
        Path(target).write_text(public)
    return done.stdout


def test_every_command_of_the_page_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines that are for trying end well, one after the other, and the secret comes out as it went in."""
    monkeypatch.chdir(tmp_path)

    said = [run(line) for block in blocks("sh") for line in block.splitlines()]

    assert len(said) > 20
    assert "the root password" in said


def test_the_files_of_the_page_are_read(tmp_path: Path) -> None:
    """The admission file and the evidence that it shows are what the commands take."""
    (admission,) = blocks("toml")
    (evidence,) = blocks("json")
    file = tmp_path / "admission.toml"
    file.write_text(admission)

    assert [it.hostname for it in read_admission(file).revocations] == ["web-03"]
    assert [it.control_id for it in decode_evidence(evidence.encode()).controls] == [
        "art-21",
        "art-23",
    ]
