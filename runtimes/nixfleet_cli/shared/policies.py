"""How commands show what policies cost."""

from nixfleet_release.check.outlook import BlastRadius


def blast_radius_value(radius: BlastRadius | None) -> object:
    """Return a blast radius as JSON; null where nothing is released."""
    if radius is None:
        return None
    return {
        "hosts": radius.hosts,
        "worst": radius.worst,
        "tolerated": radius.tolerated,
        "inFlight": radius.in_flight,
    }
