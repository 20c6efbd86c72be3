"""An alarm is one line that says what to do; what lasts is told once, and its end once."""

from structlog.testing import capture_logs

from runtime.alarms import Alarm, LastingAlarm, raise_alarm

ALARM = Alarm("kettle_dry", "The kettle has no water.", "Fill it.")


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
