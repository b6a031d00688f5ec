"""Which servers, and how they are spoken to. Connects to nothing."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import field, frozen

from nixfleet_nats.names import PREFIX, PREFIX_DEFAULT, Names
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import readable_file
from nixfleet_runtime.config.sections import is_loopback
from nixfleet_runtime.documents.problems import quoted

TLS: Final = "tls"
SCHEMES: Final = ("nats", TLS)
FLEET_DEFAULT: Final = "nixfleet"
_PORT: Final = 4222


@frozen
class Target:
    """The servers of one cluster. ca_certificate_file: `None` for the machine's certificate authorities.

    With `tls://` the connection begins with TLS, so that nobody between can leave it out.
    """

    urls: tuple[str, ...]
    names: Names = field(factory=Names)
    ca_certificate_file: Path | None = None

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"NATS at {', '.join(self.urls)}"

    @property
    def has_tls(self) -> bool:
        """Whether every connection begins with TLS."""
        return self.urls[0].startswith(f"{TLS}://")


def read_target(section: Section) -> Target:
    """Return what a configuration says of the servers."""
    one = section.text("url", "") if section.has("url") else ""
    more = section.texts("urls")
    urls = more or ((one,) if one else ())
    key = "urls" if more else "url"
    if one and more:
        section.refuse("url", "is set beside urls", "one of the two", quoted(one))
    if not urls:
        section.require("url", "nats://HOST:PORT or tls://HOST:PORT")
    hosts = [_checked(section, key, url) for url in urls]
    schemes = {urlsplit(url).scheme for url, host in zip(urls, hosts, strict=True) if host}
    if len(schemes) > 1:
        section.refuse(key, "mixes plain and encrypted", "nats:// alone, or tls:// alone", "both")
    is_permitted = section.flag("plain_nats_beyond_loopback")
    far = [host for host in hosts if host and not is_loopback(host)]
    if "nats" in schemes and far and not is_permitted:
        expected = "a loopback address, tls://, or plain_nats_beyond_loopback = true"
        section.refuse(key, "plain NATS beyond loopback", expected, quoted(far[0]))
    ca_certificate_file = section.optional_path("ca_certificate_file", readable_file)
    if ca_certificate_file is not None and "nats" in schemes:
        section.refuse("ca_certificate_file", "has no effect", "a tls:// url", "nats://")
    prefix = section.text("prefix", PREFIX_DEFAULT)
    if not PREFIX.fullmatch(prefix):
        expected = "1 to 32 letters, digits, '-' and '_'"
        section.refuse("prefix", "cannot begin a subject", expected, quoted(prefix[:80]))
    return Target(tuple(urls) or (f"nats://127.0.0.1:{_PORT}",), Names(prefix), ca_certificate_file)


def _checked(section: Section, key: str, url: str) -> str | None:
    """Return the host of a URL; `None`: the problem is reported."""
    expected = "nats://HOST:PORT or tls://HOST:PORT, without a path"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if "@" in parts.netloc:
        section.refuse(key, "has credentials", "a URL without user and password", "some, not shown")
        return None
    is_usable = parts.scheme in SCHEMES and parts.hostname and parts.port != 0
    if not is_usable or url != f"{parts.scheme}://{parts.netloc}":
        section.refuse(key, "cannot be used", expected, quoted(url[:200]))
        return None
    return parts.hostname
