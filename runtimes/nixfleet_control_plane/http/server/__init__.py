"""Everything below a route: connections, limits, bodies, paths and query fields."""
