"""The control plane's commit builder: the kernel's, with this side's writes and actions."""

from nixfleet_control_plane.messages.inputs import Action
from nixfleet_control_plane.messages.writes import Write
from nixfleet_runtime.kernel import commit_builder


class CommitBuilder(commit_builder.CommitBuilder[Write, Action]):
    """The writes and actions of one control-plane commit, in order."""
