"""How a refund has ended, as its payment is told."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class RefundDone:
    """The refund is proven."""

    refund_id: UUID
    amount: int
    """Whole shillings."""
    part: bool = False
    the_rest: bool = True
    """Nothing of the money is left here now."""
    others_under_way: bool = False
    """The fate of another refund of the payment is open."""
    beside: bool = False
    """It is of other money than the payment stands on: what came a second time."""

    @property
    def fact_id(self) -> str:
        return f"refund-done:{self.refund_id}"


@dataclass(frozen=True, slots=True)
class RefundFailed:
    """The refund is proven not to have happened."""

    refund_id: UUID
    part: bool = False
    others_under_way: bool = False
    beside: bool = False

    @property
    def fact_id(self) -> str:
        return f"refund-failed:{self.refund_id}"


RefundEnd = RefundDone | RefundFailed
