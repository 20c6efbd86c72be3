"""The invoice that the tax authority's system (eTIMS) has for the sale that a payment paid for."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class TaxInvoice:
    """How it is known there. This service makes none: whoever does hands it in."""

    invoice_number: str
    control_unit_number: str
    verification_url: str
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class TaxInvoiceRequest:
    """What the caller asked for, parsed: to put a tax invoice on a payment's receipt."""

    request_id: str
    payment_id: UUID
    tax_invoice: TaxInvoice
    replaces: str = ""
    """Number of the invoice that the receipt names by mistake; empty where it names none."""
    why: str = ""
    """Why that one is replaced."""
