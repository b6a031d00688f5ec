"""Private keys and the files they live in."""

import os
import stat
from pathlib import Path

import pytest

from nixfleet_proto.signing import (
    InsecureKeyFile,
    MalformedKeyFile,
    SigningKey,
    UnsupportedAlgorithm,
    is_signed_by,
    openssh_line,
    read_public_key,
)
from nixfleet_proto.trust import TrustedKey

SEED = bytes(range(32))


def test_a_generated_key_signs_for_its_own_public_half() -> None:
    """A new key is like no other, and its public half checks what it signs."""
    key, other = SigningKey.generate(), SigningKey.generate()

    assert is_signed_by(key.public_key, b"message", key.sign(b"message"))
    assert not is_signed_by(other.public_key, b"message", key.sign(b"message"))
    assert not is_signed_by(key.public_key, b"massage", key.sign(b"message"))


def test_the_first_test_vector_of_rfc_8032_is_met() -> None:
    """Keys and signatures are those of ed25519 as published."""
    key = SigningKey(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )

    assert key.public_key == TrustedKey(
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"
    )


def test_a_key_of_another_algorithm_is_not_tried() -> None:
    """A public key says which algorithm it is for, and no other is used with it."""
    key = SigningKey(SEED)

    with pytest.raises(UnsupportedAlgorithm):
        is_signed_by(TrustedKey(key.public_key.public_key, "rsa"), b"", key.sign(b""))


def test_a_saved_key_is_loaded_again_from_a_file_that_is_its_owners_alone(tmp_path: Path) -> None:
    """A key file has mode 0600 whatever the umask, and nothing else is left beside it."""
    path = tmp_path / "host.key"

    SigningKey(SEED).save(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load(path).public_key == SigningKey(SEED).public_key
    assert [file.name for file in tmp_path.iterdir()] == ["host.key"]


def test_saving_over_an_existing_file_is_refused_and_leaves_it_alone(tmp_path: Path) -> None:
    """No key is lost to another one."""
    path = tmp_path / "host.key"
    SigningKey(SEED).save(path)

    with pytest.raises(FileExistsError):
        SigningKey.generate().save(path)

    assert SigningKey.load(path).public_key == SigningKey(SEED).public_key
    assert [file.name for file in tmp_path.iterdir()] == ["host.key"]


def test_saving_after_a_save_that_was_cut_off_succeeds(tmp_path: Path) -> None:
    """What a crash left behind is in nobody's way."""
    (tmp_path / ".host.key.partial").write_text("half of a ke")

    SigningKey(SEED).save(tmp_path / "host.key")

    assert SigningKey.load(tmp_path / "host.key").public_key == SigningKey(SEED).public_key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_loading_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    """A key file with any right for anybody else is refused, with its mode."""
    path = tmp_path / "host.key"
    SigningKey(SEED).save(path)
    path.chmod(mode)

    with pytest.raises(InsecureKeyFile, match=f"mode {mode:04o}; expected 0600") as refusal:
        SigningKey.load(path)

    assert (refusal.value.path, refusal.value.mode) == (path, mode)


def test_a_key_in_a_directory_that_is_private_may_have_other_rights(tmp_path: Path) -> None:
    """A service manager's credential is readable for root's group as a file; what it contains is checked still."""
    path = tmp_path / "credential"
    SigningKey(SEED).save(path)
    path.chmod(0o440)

    loaded = SigningKey.load(path, directory_is_private=True)

    assert loaded.public_key == SigningKey(SEED).public_key
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(MalformedKeyFile):
        SigningKey.load(path, directory_is_private=True)


@pytest.mark.parametrize("content", [b"", SEED, SEED.hex().encode()[:-1], b"\xff" * 64])
def test_loading_a_file_that_holds_no_key_is_refused_without_showing_it(
    tmp_path: Path, content: bytes
) -> None:
    """A broken key file is named; what is in it might be most of a key."""
    path = tmp_path / "host.key"
    path.touch(mode=0o600)
    path.write_bytes(content)

    with pytest.raises(MalformedKeyFile) as refusal:
        SigningKey.load(path)

    assert (refusal.value.path, refusal.value.length) == (path, len(content))
    assert SEED.hex()[:16] not in str(refusal.value)


def test_loading_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """A named pipe holds no key, and nothing waits for its writer."""
    path = tmp_path / "pipe"
    os.mkfifo(path, mode=0o600)

    with pytest.raises(MalformedKeyFile):
        SigningKey.load(path)


def test_loading_an_endless_file_is_refused(tmp_path: Path) -> None:
    """Of a file that is far too long, only the beginning is read."""
    path = tmp_path / "key"
    path.touch(mode=0o600)
    os.truncate(path, 1 << 40)

    with pytest.raises(MalformedKeyFile):
        SigningKey.load(path)


def test_loading_a_file_that_is_not_there_fails_as_the_system_says(tmp_path: Path) -> None:
    """A missing key file is the world's failure, not a broken key."""
    with pytest.raises(FileNotFoundError):
        SigningKey.load(tmp_path / "host.key")


def test_a_private_key_shows_only_its_public_half() -> None:
    """Neither `repr` nor `str` of a key gives it away."""
    key = SigningKey(SEED)

    assert repr(key) == str(key) == f"SigningKey(public_key='{key.public_key.public_key}')"


def test_a_public_key_written_as_openssh_does_is_read_as_the_same_key() -> None:
    """The line is the one that `ssh-keygen` writes, without a comment."""
    key = SigningKey(SEED).public_key

    line = openssh_line(key)

    assert line.startswith("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA")
    assert read_public_key(line) == key
