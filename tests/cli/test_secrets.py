"""`nixfleet secrets`: sealed by one, opened by any, resealed to others; nothing readable on the disk."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nixfleet_cli.main import main
from nixfleet_proto.signing import SigningKey

SECRET = b"the root password\0\xff\n"
ANNA, BERT, CARL = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, key in (("anna", ANNA), ("bert", BERT), ("carl", CARL)):
        key.save(tmp_path / f"{name}.key")
        (tmp_path / f"{name}.pub").write_text(key.public_key.public_key + "\n")
    return tmp_path


def secrets(*arguments: str | Path, given: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["secrets", *map(str, arguments)], input=given)


def sealed(place: Path, *names: str) -> Path:
    file = place / "root.sealed"
    to = [argument for name in names for argument in ("--to", place / f"{name}.pub")]
    done = secrets("seal", file, *to, given=SECRET)
    assert done.exit_code == 0, done.output
    return file


def test_any_recipient_opens_what_was_sealed(place: Path) -> None:
    """The secret comes out byte for byte, for each of them and nobody else."""
    file = sealed(place, "anna", "bert")

    for name in ("anna", "bert"):
        assert secrets("open", file, "--key", place / f"{name}.key").stdout_bytes == SECRET
    refused = secrets("open", file, "--key", place / "carl.key")
    assert (refused.exit_code, refused.stdout_bytes) == (1, b"")
    assert f"found {CARL.public_key.public_key}" in refused.stderr


def test_resealing_tells_who_came_and_who_went(place: Path) -> None:
    """The new group opens the same secret, and the one who went does not."""
    file = sealed(place, "anna", "bert")

    done = secrets(
        *("reseal", file, "--key", place / "anna.key"),
        *("--to", place / "anna.pub", "--to", place / "carl.pub"),
    )

    assert done.exit_code == 0, done.output
    changes = {line[10:]: line[:8].strip() for line in done.stdout.splitlines()}
    assert changes == {
        ANNA.public_key.public_key: "kept",
        BERT.public_key.public_key: "removed",
        CARL.public_key.public_key: "added",
    }
    assert secrets("open", file, "--key", place / "carl.key").stdout_bytes == SECRET
    assert secrets("open", file, "--key", place / "bert.key").exit_code == 1
    assert secrets("show", file).stdout.split() == sorted(
        it.public_key.public_key for it in (ANNA, CARL)
    )


def test_a_sealed_file_is_its_owners_alone_and_alone(place: Path) -> None:
    """Sealed and resealed files have mode 0600, nothing stands beside them, and nothing holds the secret."""
    before = set(place.iterdir())
    file = sealed(place, "anna")
    modes = [stat.S_IMODE(file.stat().st_mode)]
    secrets("reseal", file, "--key", place / "anna.key", "--to", place / "bert.pub")
    modes.append(stat.S_IMODE(file.stat().st_mode))

    assert modes == [0o600, 0o600]
    assert set(place.iterdir()) - before == {file}
    assert b"password" not in file.read_bytes()


def test_a_file_that_is_there_is_not_sealed_over(place: Path) -> None:
    """Two secrets are two files."""
    file = sealed(place, "anna")

    again = secrets("seal", file, "--to", place / "bert.pub", given=b"other")

    assert again.exit_code == 1
    assert secrets("open", file, "--key", place / "anna.key").stdout_bytes == SECRET


def test_a_failed_resealing_leaves_the_file_as_it_was(place: Path) -> None:
    """Who cannot open it cannot reseal it."""
    file = sealed(place, "anna")
    before = file.read_bytes()

    done = secrets("reseal", file, "--key", place / "bert.key", "--to", place / "bert.pub")

    assert (done.exit_code, file.read_bytes()) == (1, before)


def test_what_is_no_sealed_secret_is_unusable(place: Path) -> None:
    """Another kind of file is told, and what is in it is not shown."""
    file = place / "other.json"
    file.write_text('{"password": "hunter2"}')

    done = secrets("open", file, "--key", place / "anna.key")

    assert done.exit_code == 2
    assert "hunter2" not in done.output
