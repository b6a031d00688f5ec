"""`nixfleet demo`: a small fleet in one process, three releases, and a check that all went as it should."""
