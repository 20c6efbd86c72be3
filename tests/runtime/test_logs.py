"""Logging never fails the work it tells of: a line that cannot be written is lost, counted, and told of later."""

import errno
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from runtime.logs import configure_logs
from tests.plain_logs import log_plainly


class Disk(io.StringIO):
    """A stream that is full while it is told to be."""

    full = False

    def flush(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def write(self, text: str) -> int:
        self.flush()
        return super().write(text)


@pytest.fixture
def disk() -> Iterator[Disk]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = Disk()
    configure_logs("kiosk", stream=stream)
    yield stream
    log_plainly()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_full_disk_costs_lines_and_nothing_else(disk: Disk) -> None:
    log = structlog.get_logger()
    disk.full = True
    log.info("ours")
    logging.getLogger("library").warning("theirs")
    disk.full = False
    log.info("again")
    log.info("and again")
    lines = [json.loads(line) for line in disk.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["log lines lost", "again", "and again"]
    # Theirs counts once for itself, and once for the report that it could not be written, if there is one.
    assert lines[0]["lines"] >= 2


def test_a_closed_stream_costs_lines_and_nothing_else(disk: Disk) -> None:
    disk.close()
    structlog.get_logger().info("ours")
    logging.getLogger("library").warning("theirs")
