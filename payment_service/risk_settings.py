"""The settings of the rules against prompts that nobody wants: for each rule a mode, and how many are let through.

`enforce 6/1h 12/24h` reads: refuse what would be more than 6 within an hour or 12 within a day. The defaults are such
that a passenger who means to pay never meets one.
"""

import re
from datetime import timedelta
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from payment_service.domain.risk import LONGEST, Limit, Mode, Policy, Rule, RulePolicy
from runtime.settings import ProgramSettings

COUNTED_MAX: Final = 100
"""Only so many prompts of a phone are looked at for one request, so a rule about phones or bookings stays below."""

_LIMIT = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,3})([mh])")
_UNITS = {"m": "minutes", "h": "hours"}
_EXPECTED = "expected off, or shadow or enforce with limits such as 6/1h or 3/10m"


def rule_policy(text: str) -> RulePolicy:
    """A rule's setting, read. ValueError says what was expected."""
    mode, *limits = text.split()
    if mode == Mode.OFF and not limits:
        return RulePolicy(Mode.OFF)
    if mode not in (Mode.SHADOW, Mode.ENFORCE) or not limits:
        raise ValueError(_EXPECTED)
    return RulePolicy(Mode(mode), tuple(map(_limit, limits)))


def _limit(text: str) -> Limit:
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise ValueError(_EXPECTED)
    within = timedelta(**{_UNITS[found[3]]: int(found[2])})
    if within > LONGEST:
        raise ValueError("expected limits within 24h or less")
    return Limit(int(found[1]), within)


def _checked(text: str) -> str:
    rule_policy(text or "?")
    return text


def _counting(text: str) -> str:
    if any(limit.most >= COUNTED_MAX for limit in rule_policy(text or "?").limits):
        raise ValueError(f"expected limits below {COUNTED_MAX}")
    return text


AnyLimit = Annotated[str, AfterValidator(_checked)]
CountingLimit = Annotated[str, AfterValidator(_counting)]


class RiskSettings(ProgramSettings):
    """A setting for each rule; `domain.risk.Rule` says what each counts."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="PAYMENTS_")

    risk_phone_unanswered: CountingLimit = Field(
        default="enforce 3/1h", description="prompts to a phone, one after the other, to which nobody entered a PIN"
    )
    risk_phone_unpaid: CountingLimit = Field(
        default="enforce 6/1h 12/24h", description="prompts to a phone that brought no money"
    )
    risk_phone_bookings: CountingLimit = Field(
        default="shadow 4/1h", description="bookings that one phone is asked to pay for"
    )
    risk_phone_amount: AnyLimit = Field(
        default="enforce 500000/24h", description="shillings that one phone has paid or may be paying"
    )
    risk_booking_unpaid: CountingLimit = Field(
        default="enforce 8/24h", description="prompts for a booking that brought no money"
    )
    risk_booking_phones: CountingLimit = Field(
        default="enforce 3/24h", description="phones that are asked to pay for one booking"
    )
    risk_caller_prompts: AnyLimit = Field(
        default="off", description="prompts that one caller asks for; counted from each full stretch to the next"
    )

    @property
    def risk_policy(self) -> Policy:
        """What the rules let through, and which of them refuse the rest."""
        return {
            Rule.PHONE_UNANSWERED: rule_policy(self.risk_phone_unanswered),
            Rule.PHONE_UNPAID: rule_policy(self.risk_phone_unpaid),
            Rule.PHONE_BOOKINGS: rule_policy(self.risk_phone_bookings),
            Rule.PHONE_AMOUNT: rule_policy(self.risk_phone_amount),
            Rule.BOOKING_UNPAID: rule_policy(self.risk_booking_unpaid),
            Rule.BOOKING_PHONES: rule_policy(self.risk_booking_phones),
            Rule.CALLER_PROMPTS: rule_policy(self.risk_caller_prompts),
        }
