"""The file of the shortcodes that receive money: who may read it, and what has to stand in it."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from payment_service.daraja.shortcodes import AMOUNT_MAX, AMOUNT_MIN, Shortcode, ShortcodeKind
from runtime.private_files import why_not_private
from runtime.serving import StartRefused


class _ShortcodeEntry(BaseModel):
    """One shortcode of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: str
    kind: ShortcodeKind
    passkey: SecretStr
    till_number: str | None = None
    amount_min: int = AMOUNT_MIN
    amount_max: int = AMOUNT_MAX


def load_shortcodes(path: Path) -> Mapping[str, Shortcode]:
    """The shortcodes by number, in the order of the file; the first is the default."""
    if (why := why_not_private(path)) is not None:
        raise _unusable(path, why)
    try:
        listed = json.loads(path.read_text())
        if not isinstance(listed, list):
            raise _unusable(path, "it is no list")
        entries = [_ShortcodeEntry.model_validate(entry) for entry in listed]
        shortcodes = {
            entry.number: Shortcode(
                number=entry.number,
                kind=entry.kind,
                passkey=entry.passkey.get_secret_value(),
                till_number=entry.till_number,
                amount_min=entry.amount_min,
                amount_max=entry.amount_max,
            )
            for entry in entries
        }
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, detail["loc"])) or "an entry is no object" for detail in error.errors())
        raise _unusable(path, f"wrong or missing: {wrong}") from None
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(path, str(error)) from None
    if not shortcodes:
        raise _unusable(path, "it lists none")
    return shortcodes


def _unusable(path: Path, why: str) -> StartRefused:
    return StartRefused(
        f"{path} is no usable list of shortcodes: {why}. Expected a JSON list of objects with number, kind (PAYBILL or"
        " TILL), passkey, and for a till its till_number."
    )
