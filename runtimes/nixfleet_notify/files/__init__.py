"""What a notifier keeps: small files, each replaced as a whole."""
