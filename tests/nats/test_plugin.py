"""The options of either side: every problem at once, each with what was expected, and nothing is connected to."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from nixfleet_cli.main import main
from nixfleet_nats.plugin import NatsAgent, NatsControlPlane, transport
from nixfleet_nats.server_config import ServerConfig, ServerTls
from nixfleet_nats.target import Target
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.config.options import ConfigError, Section, load

KEY = SigningKey(bytes(32))


def read(directory: Path, path: str, options: str) -> NatsAgent | NatsControlPlane:
    """Return what the options in the table at `path` make. Raises: ConfigError."""
    file = directory / "config.toml"
    file.write_text(f'[{path}]\nkind = "nats"\n{options}\n')

    def section(root: Section) -> NatsAgent | NatsControlPlane:
        for name in path.split("."):
            root = root.section(name)
        root.text("kind")
        return transport(root)

    return load(file, {}, section).config


def test_an_agent_needs_a_url_and_nothing_else(tmp_path: Path) -> None:
    """Its key is the one that it has."""
    made = read(tmp_path, "control_plane", 'url = "tls://nats.example:4222"')
    assert made == NatsAgent(Target(("tls://nats.example:4222",)))


def test_a_control_plane_needs_its_key_as_well(tmp_path: Path) -> None:
    """Servers may be several."""
    KEY.save(tmp_path / "nats.key")
    urls = '["nats://127.0.0.1:4222", "nats://[::1]:4223"]'
    made = read(tmp_path, "transports.bus", f'urls = {urls}\nkey_file = "nats.key"\nfleet = "shop"')
    assert isinstance(made, NatsControlPlane)
    assert made.target.urls == ("nats://127.0.0.1:4222", "nats://[::1]:4223")
    assert (made.key_file, made.account, made.fleet) == (tmp_path / "nats.key", "FLEET", "shop")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("", "url: missing"),
        ('url = "nats.example:4222"', "nats://HOST:PORT or tls://HOST:PORT"),
        ('url = "http://127.0.0.1:4222"', "nats://HOST:PORT or tls://HOST:PORT"),
        ('url = "nats://127.0.0.1:4222/x"', "without a path"),
        ('url = "nats://127.0.0.1:x"', "nats://HOST:PORT or tls://HOST:PORT"),
        ('url = "nats://me:hunter2@127.0.0.1:4222"', "some, not shown"),
        ('url = "nats://nats.example:4222"', "plain_nats_beyond_loopback = true"),
        ('url = "nats://127.0.0.1"\nurls = ["nats://127.0.0.1"]', "one of the two"),
        ('urls = ["nats://127.0.0.1", "tls://nats.example"]', "nats:// alone, or tls:// alone"),
        ('url = "nats://127.0.0.1"\nca_certificate_file = "config.toml"', "a tls:// url"),
        ('url = "nats://127.0.0.1"\nprefix = "a.b"', "letters, digits, '-' and '_'"),
        ('url = "nats://127.0.0.1"\nkey_file = "x"', "key_file"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(
    tmp_path: Path, options: str, problem: str
) -> None:
    """With what was expected; a password is not shown."""
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, "control_plane", options)
    assert problem in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_the_printed_configuration_names_keys_and_has_no_secret(tmp_path: Path) -> None:
    """What the command prints is what the tests' servers run with."""
    public = KEY.public_key
    arguments = [
        "--key",
        public.public_key,
        "--store-dir",
        "/var/lib/nats",
        "--listen",
        "[::]:4333",
    ]
    tls = ["--tls", "cert.pem", "key.pem", "--account", "SHOP"]
    done = CliRunner().invoke(main, ["control-plane", "nats-server", *arguments, *tls])
    assert done.exit_code == 0, done.output
    files = ServerTls(Path("cert.pem"), Path("key.pem"))
    config = ServerConfig(public, Path("/var/lib/nats"), "[::]", 4333, "SHOP", files)
    assert done.output == config.text()
    assert "handshake_first: true" in done.output
    assert bytes(32).hex() not in done.output


@pytest.mark.parametrize(
    "arguments",
    [("--listen", "4222"), ("--listen", "x:0"), ("--account", "a b"), ("--key", "nothing")],
)
def test_a_configuration_that_no_server_could_read_is_not_printed(
    arguments: tuple[str, str],
) -> None:
    """Exit code 2."""
    key = () if arguments[0] == "--key" else ("--key", KEY.public_key.public_key)
    done = CliRunner().invoke(main, ["control-plane", "nats-server", *key, *arguments])
    assert done.exit_code == 2, done.output
