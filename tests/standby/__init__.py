"""Several control planes on one store, as processes: who leads, and what is lost when one goes. Nothing may be."""
