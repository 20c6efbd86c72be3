"""The setting that lists web pages' origins: whose scripts may read what the edge shows to passengers."""

import re
from typing import Annotated

from pydantic import PlainValidator
from pydantic_settings import NoDecode

# Plain HTTP is a page on a developer's machine; elsewhere anybody on the way could read what it is told.
_ORIGIN = re.compile(r"(https://[a-z0-9.-]+|http://(localhost|127\.0\.0\.1|\[::1\]))(:[1-9][0-9]{0,4})?")


class Origins(tuple[str, ...]):
    """Origins, written as they are set."""

    __slots__ = ()

    def __str__(self) -> str:
        return ", ".join(self)


def _read_origins(text: object) -> Origins:
    if isinstance(text, Origins):
        return text
    origins = Origins(part.strip() for part in str(text).split(",") if part.strip())
    if not all(map(_ORIGIN.fullmatch, origins)):
        raise ValueError("expected origins like https://www.example.org, in small letters, with commas between")
    return origins


# The type of a setting that lists origins.
OriginsSetting = Annotated[Origins, NoDecode, PlainValidator(_read_origins)]
