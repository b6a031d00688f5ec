"""The configuration of a nats-server for a fleet, as text. It has no secret: keys are named by their public halves.

Source: docs/how-to/running-with-nats.md.
"""

from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_nats.nkeys import Owner, nkey_of
from nixfleet_proto.trust import TrustedKey

ACCOUNT_DEFAULT: Final = "FLEET"


@frozen
class ServerTls:
    """The files of the server's certificate, as the server reads them."""

    certificate_file: Path
    key_file: Path


@frozen
class ServerConfig:
    """What is particular to one server. key: the control plane's, which is also the account's issuer."""

    key: TrustedKey
    directory: Path
    host: str = "127.0.0.1"
    port: int = 4222
    account: str = ACCOUNT_DEFAULT
    tls: ServerTls | None = None

    def text(self) -> str:
        """Return the file."""
        tls = ""
        if self.tls is not None:
            certificate, key = _quoted(self.tls.certificate_file), _quoted(self.tls.key_file)
            tls = f"tls {{ cert_file: {certificate}, key_file: {key}, handshake_first: true }}\n"
        return _TEXT.format(
            user=nkey_of(self.key, Owner.USER),
            issuer=nkey_of(self.key, Owner.ACCOUNT),
            directory=_quoted(self.directory),
            host=self.host,
            port=self.port,
            account=self.account,
            tls=tls,
        )


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


_TEXT: Final = """\
# nats-server for nixfleet. Nothing in this file is secret.
listen: "{host}:{port}"
{tls}jetstream {{ store_dir: {directory} }}

accounts {{
  {account} {{
    jetstream: enabled
    # The control plane. That it has an nkey is also why the server sends a nonce to hosts.
    users: [ {{ nkey: {user} }} ]
    # To end the connections of a host that is revoked.
    imports: [ {{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.*.KICK" }} }} ]
  }}
  SYS {{
    exports: [ {{ service: "$SYS.REQ.SERVER.*.KICK", accounts: [ {account} ] }} ]
  }}
}}
system_account: SYS

# Everyone else is asked about at the control plane, which knows the hosts' keys.
authorization {{
  timeout: 2
  auth_callout {{
    issuer: {issuer}
    account: {account}
    auth_users: [ {user} ]
  }}
}}
"""
