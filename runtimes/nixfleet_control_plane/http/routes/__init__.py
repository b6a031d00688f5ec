"""One module per kind of caller: agents, operators, hosts that enroll, and anybody."""
