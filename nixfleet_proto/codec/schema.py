"""The JSON Schema (2020-12) of what a coder reads, from the types that it reads: the two cannot drift apart.

Objects are open, since unknown fields are ignored. An envelope written as an array, which is read as well, is not
offered. What a schema cannot say is left to the reader: that a day exists, or that a batch is of one host.
Source: docs/spec/wire.md, JSON.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from inspect import getdoc
from types import NoneType, UnionType
from typing import Any, TypeAlias, Union, cast, get_args, get_origin

import attrs

from nixfleet_proto.codec.primitives import I32_MAX, I32_MIN, SIGNED_FIELDS, U64_MAX
from nixfleet_proto.codec.strict import Coder, Spelling, snake_case
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue

Schema: TypeAlias = dict[str, JsonValue]

REFERENCES = "#/components/schemas/"
ROLLOUT_ID_PATTERN = "^[a-z0-9_-]+@[^@]+$"
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$"

_PRIMITIVES: dict[object, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0, "maximum": U64_MAX},
    datetime: {"type": "string", "format": "date-time", "pattern": TIME_PATTERN},
    RolloutId: {"type": "string", "pattern": ROLLOUT_ID_PATTERN},
}
_SIGNED: Schema = {"type": "integer", "minimum": I32_MIN, "maximum": I32_MAX}
_JSON_VALUE = get_args(FrozenMap[str, JsonValue])[1]


class SchemaBook:
    """The schemas of several coders, each class once and by name. limits: what a schema of a class says besides."""

    def __init__(self, limits: Mapping[tuple[type, str], Schema] = FrozenMap()) -> None:
        self.definitions: dict[str, JsonValue] = {}
        self._limits = limits
        self._names: dict[tuple[bool, object], str] = {}

    def schema_of(self, coder: Coder[Any]) -> Schema:
        """Return the schema of what `coder` reads; classes are references into `definitions`."""
        return self._schema(coder.form, coder.spelling)

    def _schema(self, form: Any, spelling: Spelling) -> Schema:
        if form in _PRIMITIVES:
            return dict(_PRIMITIVES[form])
        if form in spelling.cases:
            return self._tagged(spelling.cases[form], spelling)
        if form == _JSON_VALUE:
            return {}
        if get_origin(form) in (Union, UnionType):
            return {"anyOf": [self._option(option, spelling) for option in get_args(form)]}
        if get_origin(form) is tuple:
            return {"type": "array", "items": self._schema(get_args(form)[0], spelling)}
        if get_origin(form) is FrozenMap:
            return self._map(form, spelling)
        cls = cast("type[object]", form)
        if issubclass(cls, StrEnum):
            return {"type": "string", "enum": [str(member) for member in cls]}
        assert attrs.has(cls), f"no schema for {cls}"
        return self._reference(cls, spelling)

    def _option(self, option: Any, spelling: Spelling) -> Schema:
        return {"type": "null"} if option is NoneType else self._schema(option, spelling)

    def _map(self, form: Any, spelling: Spelling) -> Schema:
        name_form, item_form = get_args(form)
        schema: Schema = {
            "type": "object",
            "additionalProperties": self._schema(item_form, spelling),
        }
        return (
            schema
            if name_form is str
            else {**schema, "propertyNames": self._schema(name_form, spelling)}
        )

    def _tagged(self, cases: Mapping[str, type], spelling: Spelling) -> Schema:
        references = {kind: self._reference(case, spelling, kind) for kind, case in cases.items()}
        return {
            "oneOf": list(references.values()),
            "discriminator": {
                "propertyName": "kind",
                "mapping": {kind: reference["$ref"] for kind, reference in references.items()},
            },
        }

    def _reference(self, cls: type, spelling: Spelling, kind: str | None = None) -> Schema:
        key = (spelling.name_of is snake_case, cls)
        if key not in self._names:
            name = cls.__name__
            if name in self.definitions:
                name += ".snake" if key[0] else ".camel"
            self._names[key] = name
            self.definitions[name] = None  # in its place before what it refers to
            self.definitions[name] = self._object(cls, spelling, kind)
        return {"$ref": REFERENCES + self._names[key]}

    def _object(self, cls: type, spelling: Spelling, kind: str | None) -> Schema:
        properties: dict[str, JsonValue] = {}
        required: list[JsonValue] = []
        if kind is not None:
            properties["kind"] = {"const": kind}
            required.append("kind")
        for field in attrs.fields(cast("type[attrs.AttrsInstance]", cls)):
            name = spelling.name_of(field.name)
            schema = _SIGNED if field.name in SIGNED_FIELDS else self._schema(field.type, spelling)
            properties[name] = {**schema, **self._limits.get((cls, field.name), {})}
            if field.default is attrs.NOTHING:
                required.append(name)
        first, *_ = (getdoc(cls) or "").splitlines()
        return {
            "description": first,
            "type": "object",
            "properties": properties,
            "required": required,
        }
