"""The control plane behind TLS of its own, and what it says to a certificate that is none."""

import ssl
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nixfleet_runtime.kernel.clock import SystemClock
from tests.engines.releases import Publisher
from tests.support.control_plane_process import CONFIG, Premises

HOST = "localhost"
TLS = '[listen]\nhost = "localhost"\ntls_certificate_file = "tls.pem"\ntls_key_file = "tls.key"\n'


@pytest.fixture
def premises(tmp_path: Path) -> Premises:
    """A control plane that is told of a certificate, which is there."""
    premises = Premises(tmp_path, Publisher())
    premises.config.write_text(CONFIG.replace("[listen]\n", TLS))
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "tls.pem").write_bytes(_certificate(key))
    (tmp_path / "tls.key").touch(mode=0o600)
    (tmp_path / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return premises


def _certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = SystemClock().now()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def test_it_speaks_tls_with_the_certificate_it_is_given(premises: Premises) -> None:
    """Who trusts the certificate reaches it; who speaks plain HTTP does not."""
    trusting = ssl.create_default_context(cafile=premises.directory / "tls.pem")
    with premises.running() as living:
        assert living.url.startswith(f"https://{HOST}:")
        with httpx2.Client(verify=trusting, trust_env=False) as client:
            assert client.get(f"{living.url}/healthz").text.startswith("ok\nnixfleet ")
            with pytest.raises(httpx2.HTTPError):
                client.get(f"http{living.url.removeprefix('https')}/healthz")


def test_a_certificate_of_another_key_is_named_before_anything_begins(premises: Premises) -> None:
    """A pair that does not belong together would fail every connection; it fails the start."""
    another = ec.generate_private_key(ec.SECP256R1())
    (premises.directory / "tls.pem").write_bytes(_certificate(another))
    with premises.running() as living:
        assert living.ended() == 2
    assert "the TLS certificate: " in premises.said()
