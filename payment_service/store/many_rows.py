"""Statements over many rows at once, built from the tables.

One array a column, joined row by row by `unnest`: one statement text for any
number of rows, so that it is prepared once. A row in a group of 32 costs a
sixth of a row in a statement of its own.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql


def inserting(table: Table, columns: Sequence[str], suffix: str = "") -> str:
    """INSERT of many rows. `suffix` follows the SELECT: a filter, ON CONFLICT, RETURNING."""
    names = ", ".join(columns)
    return f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {unnested(table, columns)} {suffix}"


def updating(table: Table, key: str, guard: str, columns: Sequence[str]) -> str:
    """UPDATE of many rows by key, each only if its `guard` column still has the value it was read with."""
    assignments = ", ".join(f"{name} = rows.{name}" for name in columns)
    names = ", ".join([key, "guard", *columns])
    return (
        f"UPDATE {table.name} AS t SET {assignments} FROM unnest({_arrays(table, (key, guard, *columns))})"
        f" AS rows ({names}) WHERE t.{key} = rows.{key} AND t.{guard} = rows.guard"
    )


def selected(fields: Sequence[str], table: str, **elsewhere: str) -> str:
    """The list of a SELECT, one a field: the table's column of that name, or what `elsewhere` reads the field from.

    So the fields are the only list, whatever their order.
    """
    return ", ".join(elsewhere.get(field, f"{table}.{field}") for field in fields)


def unnested(table: Table, columns: Sequence[str]) -> str:
    """The FROM item that turns one array a column, parameters from $1 on, into rows."""
    return f"unnest({_arrays(table, columns)}) AS rows ({', '.join(columns)})"


def _arrays(table: Table, columns: Sequence[str]) -> str:
    return ", ".join(f"${place}::{sql_type(table, name)}[]" for place, name in enumerate(columns, 1))


def sql_type(table: Table, column: str) -> str:
    """The PostgreSQL type of a column."""
    return str(table.c[column].type.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]  # SQLAlchemy leaves the dialect's constructor untyped


def columns_of(rows: Iterable[Sequence[object]]) -> list[str]:
    """Rows turned into one array literal a column, as the statements above take them.

    Written out here because psycopg's own list adapter takes ten times as long, and every payment passes through some
    hundred of these values.
    """
    return [array_of(column) for column in zip(*rows, strict=True)]


def array_of(values: Iterable[object]) -> str:
    """One array literal."""
    return "{" + ",".join([_ELEMENTS[type(value)](value) for value in values]) + "}"


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Elements(dict[type, Callable[[Any], str]]):
    """How a value of each type is written as an element ("Array Input and Output Syntax" in PostgreSQL's manual)."""

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        """An enum is written as the text it is, and any other type as the one that it is derived from."""
        for base in kind.__mro__[1:]:
            if base in self:
                self[kind] = self[base]
                return self[base]
        raise TypeError(f"no element of an array is written from a {kind.__name__}")


_ELEMENTS = _Elements(
    {
        NoneType: lambda _: "NULL",
        str: _text,
        bytes: lambda value: '"\\\\x' + value.hex() + '"',
        bool: lambda value: "t" if value else "f",
        datetime: lambda value: '"' + value.isoformat() + '"',
        dict: lambda value: _text(json.dumps(value)),
        int: str,
        Decimal: str,
        UUID: str,
    }
)
