"""Our operator of M-Pesa, as whom statuses are asked for and money is sent back, and where the results come to."""

import hashlib
from dataclasses import dataclass, field

from payment_service.daraja.initiator import Initiator
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

    @property
    def key(self) -> str:
        """Names the initiator with its password, without giving either away."""
        secret = self.initiator.name.encode() + b"\0" + self.initiator.password.encode()
        return self.sealer.index("initiator", hashlib.sha256(secret).digest()).hex()

    def url(self, kind: CallbackKind, reference: str) -> str:
        """Where a result about the payment or refund with this reference is to be posted."""
        return self.callback_base_url + callback_path(self.callback_keys, kind, reference)
