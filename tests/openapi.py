"""The OpenAPI document, and whether what is served is what it says: as much of JSON Schema as it uses."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[1] / "docs" / "openapi.json"
TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


@functools.cache
def _document() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return content


def paths() -> set[str]:
    return set(_document()["paths"])


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = _document()["paths"][path][method]
    return found


def schema_of(one: Mapping[str, Any], status: int) -> dict[str, Any]:
    """The schema of an operation's answer."""
    found: dict[str, Any] = one["responses"][str(status)]["content"]["application/json"]["schema"]
    return found


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = _document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def check(schema: dict[str, Any], value: object, *, fits: bool = True) -> None:
    """Assert that a value is, or is not, what a schema says."""
    wrong = list(_wrong(schema, value, "$"))
    assert bool(wrong) is not fits, wrong or "it fits"


def _wrong(schema: dict[str, Any], value: object, where: str) -> list[str]:
    schema = resolved(schema)
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    expected = tuple(one for name in named for one in TYPES[name])
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        return [f"{where} is {value!r}, not {named}"]
    found: list[str] = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where} is {value!r}")
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{where}.{name} lacks" for name in schema.get("required", ()) if name not in value]
        for name, one in value.items():
            if name in known:
                found += _wrong(known[name], one, f"{where}.{name}")
            elif isinstance(others, dict):
                found += _wrong(others, one, f"{where}.{name}")
            elif not others:
                found.append(f"{where}.{name} is not said")
    if isinstance(value, list):
        found += [text for one in value for text in _wrong(schema["items"], one, f"{where}[]")]
    return found
