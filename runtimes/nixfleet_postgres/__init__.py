"""A control plane's store in PostgreSQL, over asyncpg: `[store] kind = "postgres"`. The extra is `postgres`."""
