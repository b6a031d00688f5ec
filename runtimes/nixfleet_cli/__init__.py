"""The `nixfleet` command. Words in, words out; every decision is taken elsewhere."""
