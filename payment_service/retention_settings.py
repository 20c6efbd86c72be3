"""The settings of how long is kept what only shows how a payment came about."""

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from runtime.settings import ProgramSettings


class RetentionSettings(ProgramSettings):
    """In days; what a payment under way or an open case needs stays longer."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="PAYMENTS_")

    keep_exchanges_days: int = Field(
        default=90, ge=30, le=3_650, description="how long requests to M-Pesa and their answers are kept, days"
    )
    keep_callback_bodies_days: int = Field(
        default=365, ge=30, le=3_650, description="how long the bodies of callbacks are kept, days"
    )
    keep_risk_decisions_days: int = Field(
        default=365, ge=30, le=3_650, description="how long decisions of rules against prompts are kept, days"
    )
