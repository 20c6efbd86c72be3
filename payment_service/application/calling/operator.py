"""Our operator of M-Pesa, as whom statuses are asked for and money is sent back, and where the results come to."""

import hashlib
from dataclasses import dataclass, field, replace

from payment_service.daraja.initiator import Initiator
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.domain.callbacks import CallbackKind
from payment_service.security.sealing import Sealer
from runtime.callback_tokens import CallbackKeys, callback_path


@dataclass(frozen=True, slots=True)
class Operator:
    """Who asks, and at which addresses an answer is taken."""

    initiator: Initiator
    sealer: Sealer
    callback_keys: CallbackKeys = field(repr=False)
    callback_base_url: str
    app: str = ""
    """Key of the Daraja app that it is an operator through; empty for the default one. Another organisation's operator
    may have the same name and password, and is locked by itself."""
    b2c_shortcode: str = ""
    """What parts of payments are sent from; empty: the shortcode that was paid."""
    b2c_command: str = "BusinessPayment"
    """As Safaricom has set up that shortcode for B2C."""

    @property
    def key(self) -> str:
        """Names the initiator with its password, without giving either away."""
        named = (self.initiator.name, self.initiator.password, *([self.app] if self.app else []))
        secret = b"\0".join(part.encode() for part in named)
        return self.sealer.index("initiator", hashlib.sha256(secret).digest()).hex()

    def b2c_account(self, paid: Shortcode) -> Shortcode:
        """What a part of a payment to this shortcode is sent from, and asked about as."""
        if not self.b2c_shortcode:
            return paid
        return replace(paid, number=self.b2c_shortcode, kind=ShortcodeKind.PAYBILL, till_number=None)

    def url(self, kind: CallbackKind, reference: str) -> str:
        """Where a result about the payment or refund with this reference is to be posted."""
        return self.callback_base_url + callback_path(self.callback_keys, kind, reference)
