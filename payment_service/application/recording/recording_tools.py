"""What recording facts takes besides a connection: keys, the clock, and the rules that are settings."""

from dataclasses import dataclass, field

from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.domain.approvals import APPROVAL_ABOVE
from payment_service.domain.automatic_refunds import AutomaticRefunds
from payment_service.domain.payment import Times
from payment_service.domain.receipt import Issuer
from payment_service.domain.refund import RefundTimes
from payment_service.security.sealing import Sealer
from runtime.key_rings import KeyRing


@dataclass(frozen=True, slots=True)
class RecordingTools:
    """What recording needs besides a connection."""

    sealer: Sealer
    event_chain_keys: KeyRing
    request_fingerprint_keys: KeyRing
    clock: DatabaseClock
    times: Times
    refund_times: RefundTimes = field(default_factory=RefundTimes)
    automatic_refunds: AutomaticRefunds = field(default_factory=AutomaticRefunds)
    approval_above: int = APPROVAL_ABOVE
    """Whole shillings above which a second person has to agree to a refund that a person asks for."""
    issuer: Issuer | None = None
    """Who issues receipts; without one there are none."""
