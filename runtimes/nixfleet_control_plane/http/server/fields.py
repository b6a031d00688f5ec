"""Reads the headers of a request, once per request, because decoding many small strings is slow."""

from collections.abc import Mapping

from starlette.requests import Request


def fields_of(request: Request) -> Mapping[str, str]:
    """Return every header by its lower-case name; repeated lines are joined with a comma, as in RFC 9110.

    Two different values of a header that allows one thus become one invalid value.
    """
    fields: dict[str, str] = {}
    for line_name, line in request.scope["headers"]:
        name, value = line_name.decode("latin-1"), line.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
