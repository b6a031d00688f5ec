"""The rules for declarations, and checked declarations that satisfy them. All problems are reported at once."""
