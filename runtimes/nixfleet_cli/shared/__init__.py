"""What several commands use: argument types, failures, opening databases, the operator's client, logging."""
