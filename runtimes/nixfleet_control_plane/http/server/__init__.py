"""Everything below the routes: connections, limits, bodies, paths and header fields."""
