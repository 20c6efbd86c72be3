"""How a program calls for a person: one way for every alarm.

An alarm has a stable name, a sentence that says what happened, and one that says what to do. Raising it writes a log
line at error level and counts it, so that a person hears of it by whichever of the two is watched. What lasts is a
`LastingAlarm`: it is raised once when it begins and ended once when it is over, and a gauge shows it in between.
Counters and gauges cost nothing where nobody exports them (`exporting`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import WeakSet

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

_log = structlog.get_logger(__name__)
_meter = metrics.get_meter("alarms")
_raised = _meter.create_counter("alarms.raised", description="How often each alarm was raised")
_lasting: "WeakSet[LastingAlarm]" = WeakSet()


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person has to know."""

    name: str
    """Stable: rules for alerts are written against it."""
    meaning: str
    """One sentence: what happened."""
    what_to_do: str
    """One sentence or two."""


def raise_alarm(alarm: Alarm, **fields: object) -> None:
    """Tell of something that happened once. The fields go into the log line; none of them may be secret."""
    _raised.add(1, {"alarm": alarm.name})
    _log.error("alarm", alarm=alarm.name, meaning=alarm.meaning, what_to_do=alarm.what_to_do, **fields)


@dataclass(slots=True, eq=False, weakref_slot=True)
class LastingAlarm:
    """An alarm about a state of things: one line when it begins, one when it is over.

    Where several things can be in that state, each has one of its own, and the gauge shows whether any is.
    """

    alarm: Alarm
    raised: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        _lasting.add(self)

    def set(self, holds: bool, **fields: object) -> None:
        """Say how things stand now. The same again is no news."""
        if holds is self.raised:
            return
        self.raised = holds
        if holds:
            raise_alarm(self.alarm, **fields)
        else:
            _log.warning("alarm is over", alarm=self.alarm.name, **fields)


def lasting_alarms(_options: CallbackOptions) -> Iterable[Observation]:
    """1 for each lasting alarm that is raised, else 0: what the gauge shows."""
    raised: dict[str, bool] = {}
    for lasting in set(_lasting):
        raised[lasting.alarm.name] = raised.get(lasting.alarm.name, False) or lasting.raised
    return [Observation(int(is_raised), {"alarm": name}) for name, is_raised in raised.items()]


_meter.create_observable_gauge("alarms.lasting", [lasting_alarms], description="1 while the alarm lasts, else 0")
