"""The settings of how a success that only a callback told is backed by another source."""

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from payment_service.daraja.shortcodes import AMOUNT_MAX
from runtime.settings import ProgramSettings


class BackingSettings(ProgramSettings):
    """When M-Pesa is asked about such money, until when, and whether its booking waits for the answer."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="PAYMENTS_")

    back_after_s: float = Field(
        default=900,
        gt=0,
        le=86_400,
        description="from a success that only a callback told to the first query about it, seconds",
    )
    backed_within_s: float = Field(
        default=86_400,
        gt=0,
        le=172_800,
        description="from such a success to a case and an alarm, if no other source tells it, seconds",
    )
    back_before_confirm_above_kes: int | None = Field(
        default=None,
        ge=0,
        le=AMOUNT_MAX,
        description="above which amount a booking is confirmed only when another source than the callback has told of"
        " the money; 0: always; empty: bookings are confirmed at once, and backed afterwards",
    )
