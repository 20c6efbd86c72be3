"""The settings of who issues the receipts that passengers hold. Without a name there are none."""

import io
import re
from pathlib import Path
from typing import ClassVar, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from payment_service.domain.receipt import Issuer
from runtime.serving import StartRefused
from runtime.settings import FileSetting, ProgramSettings

LOGO_BYTES_MAX: Final = 200_000
LOGO_PIXELS_MAX: Final = 2_000
"""Either way: a receipt has room for a logo of some centimetres."""
LOGO_PRINTED: Final = (804, 402)
"""Pixels: 34 by 17 millimetres at 600 to the inch, which no eye on paper tells from more."""
_HOST: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.ASCII)
_KRA_PIN: Final = re.compile(r"[AP][0-9]{9}[A-Z]", re.ASCII)
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class ReceiptSettings(ProgramSettings):
    """All of them belong together; only the logo may lack."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="PAYMENTS_")

    receipt_issuer_name: str = Field(
        default="", max_length=80, description="who issues receipts; empty: there are none"
    )
    receipt_issuer_address: str = Field(default="", max_length=160, description="postal address of the issuer")
    receipt_issuer_kra_pin: str = Field(default="", description="PIN of the issuer with the Kenya Revenue Authority")
    receipt_issuer_contact: str = Field(
        default="", max_length=80, description="phone number or e-mail address of the issuer, for passengers"
    )
    receipt_logo_file: FileSetting = Field(
        default=None, description="PNG file of at most 200 kB that stands at the head of receipts; empty: none"
    )
    receipt_base_url: str = Field(
        default="", description="where passengers reach the gateway: https://HOST; the QR code of a receipt leads there"
    )
    tax_invoice_hosts: str = Field(
        default="kra.go.ke",
        description="where links of tax invoices may lead: names of hosts, with commas between them; each stands for"
        " those below it, too",
    )

    @field_validator("tax_invoice_hosts")
    @classmethod
    def _are_hosts(cls, names: str) -> str:
        hosts = [name.strip() for name in names.lower().split(",")]
        if not all(_HOST.fullmatch(host) for host in hosts):
            raise ValueError("expected names of hosts, such as kra.go.ke, with commas between them")
        return ",".join(hosts)

    @field_validator("receipt_issuer_name", "receipt_issuer_address", "receipt_issuer_contact")
    @classmethod
    def _can_be_printed(cls, text: str) -> str:
        if not text.isprintable() or not _is_latin(text):
            raise ValueError("expected one line of Latin letters, digits and punctuation")
        return text.strip()

    @field_validator("receipt_issuer_kra_pin")
    @classmethod
    def _pin_or_nothing(cls, pin: str) -> str:
        if pin and not _KRA_PIN.fullmatch(pin):
            raise ValueError("expected A or P, 9 digits and a letter, such as P051234567X")
        return pin

    @field_validator("receipt_base_url")
    @classmethod
    def _url_or_nothing(cls, url: str) -> str:
        parts = urlsplit(url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        if url and (not safe or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment):
            raise ValueError("expected https://HOST, without a path; http:// only on this machine")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _issuer_is_whole(self) -> Self:
        belonging = {
            "PAYMENTS_RECEIPT_ISSUER_NAME": self.receipt_issuer_name,
            "PAYMENTS_RECEIPT_ISSUER_ADDRESS": self.receipt_issuer_address,
            "PAYMENTS_RECEIPT_ISSUER_KRA_PIN": self.receipt_issuer_kra_pin,
            "PAYMENTS_RECEIPT_ISSUER_CONTACT": self.receipt_issuer_contact,
            "PAYMENTS_RECEIPT_BASE_URL": self.receipt_base_url,
        }
        missing = [name for name, value in belonging.items() if not value]
        if missing and len(missing) < len(belonging):
            raise ValueError(f"receipts need {', '.join(missing)} as well")
        return self

    @property
    def invoice_hosts(self) -> tuple[str, ...]:
        """Where links of tax invoices may lead."""
        return tuple(self.tax_invoice_hosts.split(","))

    @property
    def issuer(self) -> Issuer | None:
        """Who issues receipts; None where nobody does."""
        if not self.receipt_issuer_name:
            return None
        return Issuer(
            name=self.receipt_issuer_name,
            address=self.receipt_issuer_address,
            kra_pin=self.receipt_issuer_kra_pin,
            contact=self.receipt_issuer_contact,
        )


def load_logo(path: Path | None) -> bytes | None:
    """The logo that stands on receipts, no larger than it is printed, or StartRefused where the file holds none."""
    if path is None:
        return None
    try:
        content = path.read_bytes() if path.stat().st_size <= LOGO_BYTES_MAX else b""
        scaled = _scaled(content)
    except (OSError, SyntaxError, ValueError):
        scaled = None
    if scaled is None:
        raise StartRefused(
            f"PAYMENTS_RECEIPT_LOGO_FILE names {path}, which is no usable logo: expected a PNG file of at most"
            f" {LOGO_BYTES_MAX} bytes, and {LOGO_PIXELS_MAX} pixels either way."
        )
    return scaled


def _scaled(content: bytes) -> bytes | None:
    """A PNG as it goes on paper: each receipt would have to read and pack all pixels again. None: it is too large."""
    # Read for a logo only: most processes have none.
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if max(image.size) > LOGO_PIXELS_MAX:
            return None
        drawn = image.convert("RGBA")
    if drawn.width <= LOGO_PRINTED[0] and drawn.height <= LOGO_PRINTED[1]:
        return content
    drawn.thumbnail(LOGO_PRINTED)
    packed = io.BytesIO()
    drawn.save(packed, "PNG")
    return packed.getvalue()


def _is_latin(text: str) -> bool:
    """Whether the fonts that every reader of PDFs has can show it."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
