"""What an overview says: headline, waves, needs, waits and what comes next."""
