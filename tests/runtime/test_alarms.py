"""An alarm is one line that says what to do; what lasts is told once, and its end once."""

from opentelemetry.metrics import CallbackOptions
from structlog.testing import capture_logs

from runtime.alarms import Alarm, LastingAlarm, lasting_alarms, raise_alarm

ALARM = Alarm("kettle_dry", "The kettle has no water.", "Fill it.")
SHARED = Alarm("pot_dry", "A pot has no water.", "Fill it.")


def test_an_alarm_is_an_error_that_says_what_to_do() -> None:
    with capture_logs() as lines:
        raise_alarm(ALARM, kettle=3)
    assert lines == [
        {
            "event": "alarm",
            "log_level": "error",
            "alarm": "kettle_dry",
            "meaning": "The kettle has no water.",
            "what_to_do": "Fill it.",
            "kettle": 3,
        }
    ]


def test_what_lasts_is_told_once_and_its_end_once() -> None:
    lasting = LastingAlarm(ALARM)
    with capture_logs() as lines:
        for holds in (False, True, True, True, False, False, True):
            lasting.set(holds)
    assert [line["event"] for line in lines] == ["alarm", "alarm is over", "alarm"]


def test_an_alarm_that_several_things_share_lasts_while_any_of_them_raises_it() -> None:
    one, other = LastingAlarm(SHARED), LastingAlarm(SHARED)
    for held in ((True, False), (False, True), (True, True)):
        one.set(held[0])
        other.set(held[1])
        assert shown(SHARED) == 1
    one.set(False)
    other.set(False)
    assert shown(SHARED) == 0


def shown(alarm: Alarm) -> int | float:
    return next(one.value for one in lasting_alarms(CallbackOptions()) if one.attributes == {"alarm": alarm.name})
