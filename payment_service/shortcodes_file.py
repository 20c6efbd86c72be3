"""The file of the shortcodes that receive money: who may read it, and what has to stand in it.

An entry may name a Daraja app of its own. The app's secrets do not stand in the entry: it names a file for each.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, model_validator

from payment_service.daraja.shortcodes import (
    AMOUNT_MAX,
    AMOUNT_MIN,
    MOBILE_NUMBER,
    SHORTCODE_NUMBER,
    Shortcode,
    ShortcodeKind,
)
from runtime.private_files import why_not_private
from runtime.serving import StartRefused
from runtime.settings import read_secret


@dataclass(frozen=True, slots=True)
class OwnApp:
    """The Daraja app that an entry names, and what belongs to it."""

    consumer_key: str = field(repr=False)
    consumer_secret: str = field(repr=False)
    initiator_name: str
    """Empty where no status is asked for, and no money is sent back."""
    initiator_password: str = field(repr=False)
    initiator_certificate_file: Path | None
    initiator_password_set_on: date | None
    pull_nominated_number: str = field(repr=False)
    b2c_shortcode: str
    b2c_command: str


@dataclass(frozen=True, slots=True)
class ListedShortcode:
    """One shortcode of the file, and the app that it names; None where it is called as the default one."""

    shortcode: Shortcode
    own: OwnApp | None


class _ShortcodeEntry(BaseModel):
    """One shortcode of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    number: str
    kind: ShortcodeKind
    passkey: SecretStr
    till_number: str | None = None
    amount_min: int = AMOUNT_MIN
    amount_max: int = AMOUNT_MAX
    consumer_key_file: Path | None = None
    consumer_secret_file: Path | None = None
    initiator_name: str = ""
    initiator_password_file: Path | None = None
    initiator_certificate_file: Path | None = None
    initiator_password_set_on: date | None = None
    pull_nominated_number: str = ""
    b2c_shortcode: str = ""
    b2c_command: Literal["BusinessPayment", "SalaryPayment", "PromotionPayment"] = "BusinessPayment"

    @model_validator(mode="after")
    def _what_belongs_together_is_there(self) -> Self:
        of_app = self.model_fields_set & _OF_AN_APP
        if of_app and (self.consumer_key_file is None or self.consumer_secret_file is None):
            raise ValueError(
                f"{min(of_app)} belongs to a Daraja app, so consumer_key_file and consumer_secret_file have to name it"
            )
        of_initiator = (self.initiator_name, self.initiator_password_file, self.initiator_certificate_file)
        if any(of_initiator) and not all(of_initiator):
            raise ValueError("initiator_name, initiator_password_file and initiator_certificate_file go together")
        if self.pull_nominated_number and not MOBILE_NUMBER.fullmatch(self.pull_nominated_number):
            raise ValueError("pull_nominated_number: expected 2547XXXXXXXX or 2541XXXXXXXX")
        if self.b2c_shortcode and not SHORTCODE_NUMBER.fullmatch(self.b2c_shortcode):
            raise ValueError("b2c_shortcode: expected 5 to 7 digits")
        return self


_OF_AN_APP = frozenset(
    {
        "consumer_key_file",
        "consumer_secret_file",
        "initiator_name",
        "initiator_password_file",
        "initiator_certificate_file",
        "initiator_password_set_on",
        "pull_nominated_number",
        "b2c_shortcode",
        "b2c_command",
    }
)


def load_shortcodes(path: Path) -> Mapping[str, ListedShortcode]:
    """The shortcodes by number, in the order of the file; the first is the default."""
    if (why := why_not_private(path)) is not None:
        raise _unusable(path, why)
    try:
        listed = json.loads(path.read_text())
        if not isinstance(listed, list):
            raise _unusable(path, "it is no list")
        entries = [_ShortcodeEntry.model_validate(entry) for entry in listed]
        shortcodes = {entry.number: ListedShortcode(_shortcode(entry), _own_app(path, entry)) for entry in entries}
    except ValidationError as error:
        raise _unusable(path, f"wrong or missing: {', '.join(map(_wrong, error.errors()))}") from None
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(path, str(error)) from None
    if not shortcodes:
        raise _unusable(path, "it lists none")
    return shortcodes


def _shortcode(entry: _ShortcodeEntry) -> Shortcode:
    return Shortcode(
        number=entry.number,
        kind=entry.kind,
        passkey=entry.passkey.get_secret_value(),
        till_number=entry.till_number,
        amount_min=entry.amount_min,
        amount_max=entry.amount_max,
    )


def _own_app(path: Path, entry: _ShortcodeEntry) -> OwnApp | None:
    if entry.consumer_key_file is None or entry.consumer_secret_file is None:
        return None

    def secret(name: str, file: Path) -> str:
        value, problem = read_secret(path.parent / file)
        if problem is not None:
            raise StartRefused(
                f"{name} of shortcode {entry.number} in {path} names {file}, which cannot be used: {problem}. Name a"
                " file with the value."
            )
        return value

    certificate_file, password_file = entry.initiator_certificate_file, entry.initiator_password_file
    return OwnApp(
        consumer_key=secret("consumer_key_file", entry.consumer_key_file),
        consumer_secret=secret("consumer_secret_file", entry.consumer_secret_file),
        initiator_name=entry.initiator_name,
        initiator_password=secret("initiator_password_file", password_file) if password_file is not None else "",
        initiator_certificate_file=path.parent / certificate_file if certificate_file is not None else None,
        initiator_password_set_on=entry.initiator_password_set_on,
        pull_nominated_number=entry.pull_nominated_number,
        b2c_shortcode=entry.b2c_shortcode,
        b2c_command=entry.b2c_command,
    )


def _wrong(detail: Mapping[str, object]) -> str:
    """Where an entry is wrong, or what of it does not fit together. No value is repeated: it may be a secret."""
    place = detail["loc"]
    if isinstance(place, tuple) and place:
        return ".".join(map(str, place))
    cause = detail.get("ctx")
    error = cause.get("error") if isinstance(cause, dict) else None
    return str(error) if error is not None else "an entry is no object"


def _unusable(path: Path, why: str) -> StartRefused:
    return StartRefused(
        f"{path} is no usable list of shortcodes: {why}. Expected a JSON list of objects with number, kind (PAYBILL or"
        " TILL), passkey, and for a till its till_number."
    )
