"""What kind of file an agent's journal is, and its versions. Imports little: `nixfleet --version` reads it."""

from nixfleet_runtime.storage.file_format import packaged_format

JOURNAL_FORMAT = packaged_format("nixfleet_agent.journal", "the journal of an agent", 0x6E666167)
"""Its application id spells "nfag"."""
