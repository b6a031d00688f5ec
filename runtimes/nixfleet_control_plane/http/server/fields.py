"""The headers of a request, as everything here reads them. Made once for a request: they are many small strings."""

from collections.abc import Mapping

from starlette.requests import Request


def fields_of(request: Request) -> Mapping[str, str]:
    """Return every header by its name in lower case; lines of one name are joined, as RFC 9110 has it.

    Whoever says two different things says, joined, something that nobody knows.
    """
    fields: dict[str, str] = {}
    for line_name, line in request.scope["headers"]:
        name, value = line_name.decode("latin-1"), line.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
