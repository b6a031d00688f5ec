"""The control plane's HTTP interface: turns requests into inputs and replies into responses. No policy here."""
