"""`payment-service serve --check-config`: whether `serve` could begin, as far as that shows without a network."""

from payment_service.accounts import refunds_go, switched_off
from payment_service.config import PaymentSettings
from payment_service.credentials import load_credentials
from payment_service.door import load_door


def check_files(settings: PaymentSettings) -> list[str]:
    """What the files switch on and leave out, in sentences; StartRefused where `serve` would refuse them."""
    accounts = load_credentials(settings).accounts
    load_door(settings)
    return [*switched_off(accounts), *refunds_go(accounts)]
