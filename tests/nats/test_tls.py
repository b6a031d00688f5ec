"""Over `tls://`: both sides on a server whose certificate they trust, and neither on one that they do not."""

import shutil
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nixfleet_nats.agent_end import connected
from nixfleet_nats.connection import connect
from nixfleet_nats.errors import ServerUnreachable
from nixfleet_nats.server_config import ServerConfig, ServerTls
from nixfleet_nats.target import Target
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_testing.contracts.histories import HOST
from tests.nats.conftest import KEY
from tests.nats.serving import KEYS, served
from tools.nats.server import Server, running_server

pytestmark = pytest.mark.anyio

NAME = "localhost"


def certificate_in(directory: Path) -> ServerTls:
    """Make a certificate for loopback, and its key, which the server's user may read."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = SystemClock().now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = ServerTls(directory / "tls.pem", directory / "tls.key")
    files.certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for file in (files.certificate_file, files.key_file):
        file.chmod(0o644)
    return files


async def test_both_sides_speak_tls_from_the_first_byte(server: Server, tmp_path: Path) -> None:
    """With the printed configuration; whoever trusts others, or speaks plainly, is not connected."""
    with TemporaryDirectory(prefix="nixfleet-nats-") as name:
        directory = Path(name)
        tls = certificate_in(directory)
        with running_server(directory, ServerConfig(KEY.public_key, directory, tls=tls)) as own:
            trusted = Path(shutil.copy(tls.certificate_file, tmp_path / "ca.pem"))
            target = Target((f"tls://{NAME}:{own.port}",), ca_certificate_file=trusted)
            async with (
                served(tmp_path, target) as control_plane,
                connected(target, HOST, KEYS[HOST], control_plane.clock) as host,
            ):
                assert await host.next_dispatch(0) is None
            with pytest.raises(ServerUnreachable, match="certificate"):
                await connect(evolve(target, ca_certificate_file=None), KEY, "x", "_INBOX.x")
            with pytest.raises(ServerUnreachable):
                await connect(Target((own.url,)), KEY, "x", "_INBOX.x")
