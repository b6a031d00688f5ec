"""What kind of file a control plane's database is, and its versions. Imports little: `nixfleet --version` reads it."""

from nixfleet_runtime.storage.file_format import packaged_format

DATABASE_FORMAT = packaged_format(
    "nixfleet_control_plane.store", "the database of a control plane", 0x6E666370
)
"""Its application id spells "nfcp"."""
