"""The URL of a control plane, as configurations and command lines give it: one, or several of one fleet's.

Source: docs/reference/configuration.md.
"""

from urllib.parse import urlsplit


def is_base_url(url: str) -> bool:
    """Return whether `url` is http:// or https://, a host, perhaps a port, and nothing else.

    A path would be part of a signed request, and the control plane's paths begin at the root.
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_usable and "@" not in url and url == f"{parts.scheme}://{parts.netloc}"


def base_urls(text: str) -> tuple[str, ...]:
    """Return the URLs in `text`, which are separated by commas, without a slash at the end. Checks nothing."""
    return tuple(url for part in text.split(",") if (url := part.strip().removesuffix("/")))
