"""Writes the types of the API's answers for the page's type checker, from the OpenAPI document.

    python -m tools.ui.api_types > runtimes/nixfleet_ui/page/types/api.d.ts

A field that is not required may be left out; an answer never spells out a null.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

DOCUMENT: Final = Path("docs/reference/openapi.json")
_HEADER: Final = (
    "/** Made from docs/reference/openapi.json by tools/ui/api_types.py: not edited by hand. */\n"
)
_PLAIN: Final = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean"}


def api_types(document: Mapping[str, Any]) -> str:
    """Return the declarations of every schema of the document."""
    schemas: Mapping[str, Any] = document["components"]["schemas"]
    return "\n".join((_HEADER, *(_declared(_named(name), it) for name, it in schemas.items())))


def _declared(name: str, schema: Mapping[str, Any]) -> str:
    if schema.get("type") == "object" and "properties" in schema:
        return f"export interface {name} {{\n{''.join(_members(schema))}}}\n"
    return f"export type {name} = {_form(schema)};\n"


def _members(schema: Mapping[str, Any]) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for name, member in schema["properties"].items():
        mark = "" if name in required else "?"
        yield f"  readonly {json.dumps(name)}{mark}: {_form(member)};\n"


def _form(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return _named(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            forms = [_form(it) for it in schema[union] if it.get("type") != "null"]
            return " | ".join(dict.fromkeys(forms))
    kind = schema.get("type")
    if kind == "array":
        return f"readonly ({_form(schema.get('items', {}))})[]"
    if kind == "object":
        values = schema.get("additionalProperties", {})
        return (
            f"Readonly<Record<string, {_form(values) if isinstance(values, dict) else 'unknown'}>>"
        )
    return _PLAIN.get(kind or "", "unknown")


def _named(name: str) -> str:
    return name.replace(".", "_")


if __name__ == "__main__":
    print(api_types(json.loads(DOCUMENT.read_text())), end="")
