"""One log: JSON lines, one per event, with trace ids and without anything secret.

Our own lines (structlog) and those of the libraries (logging: aiohttp, grpc, sqlalchemy, asyncio) pass the same
processors and come out in the same shape. Every value goes through `redaction`, and JSON in ASCII escapes line breaks
and control characters, so no input can forge a line or move a terminal's cursor. What is worth a line is for the
callers to say: events with fields, not sentences with values inside. A line that cannot be written is lost and counted:
logging never fails the work it tells of.
"""

import json
import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TextIO, cast

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.redaction import redact_line

# Nothing is left that JSON does not know (redact_line saw to that), so the encoder needs no fallback.
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


def configure_logs(program: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every log line of the process to the stream (stdout by default). Call it once, before the first line."""
    # Both users of it call write and flush only, which is all that it has.
    target = cast(TextIO, _LossyStream(stream if stream is not None else sys.stdout, program))
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _name_program_and_span(program),
    ]
    final: list[Processor] = [structlog.processors.format_exc_info, _render]
    # Our own lines skip the logging module, which would double what a line costs.
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    handler = _Lines(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    logging.captureWarnings(True)
    _catch_what_nobody_caught()


class _LossyStream:
    """A stream for whole lines: one that a full disk or a closed pipe refuses is dropped, and told of later."""

    def __init__(self, stream: TextIO, program: str) -> None:
        self._stream = stream
        self._program = program
        self._lost = 0

    def write(self, line: str) -> int:
        """Write the line out, after word of those lost before it."""
        told = _encode({"level": "error", "program": self._program, "event": "log lines lost", "lines": self._lost})
        try:
            self._stream.write(f"{told}\n{line}" if self._lost else line)
            self._stream.flush()
        except (OSError, ValueError):
            # ValueError: the stream was closed. There is nowhere left to report either.
            self._lost += 1
        else:
            self._lost = 0
        return len(line)

    def flush(self) -> None:
        """Nothing to do: every line is written out at once, so that its own fate is known."""


class _Lines(logging.StreamHandler[TextIO]):
    """The logging module's lines; one that cannot be formatted is reported by its logger's name alone."""

    def handleError(self, record: logging.LogRecord) -> None:
        # logging's own report prints the arguments in clear.
        structlog.get_logger().error(
            "log line unprintable", logger=record.name, origin=f"{record.module}:{record.lineno}"
        )


def _name_program_and_span(program: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        line["program"] = program
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = trace.format_trace_id(context.trace_id)
            line["span_id"] = trace.format_span_id(context.span_id)
        return line

    return add


def _render(_logger: WrappedLogger, _method: str, line: EventDict) -> str:
    # The first three are written by the processors above and hold nothing of a caller's.
    first = {name: line.pop(name) for name in ("time", "level", "program")}
    return _encode(first | redact_line({"event": line.pop("event", ""), **line}))


def _catch_what_nobody_caught() -> None:
    """An exception that ends the program or a thread is a log line too: its text may hold what no log may show."""

    def report(event: str) -> Callable[[BaseException | None], None]:
        return lambda error: structlog.get_logger().critical(event, exc_info=error)

    program_crashed, thread_crashed = report("program crashed"), report("thread crashed")

    def on_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
        else:
            program_crashed(error)

    sys.excepthook = on_exception
    threading.excepthook = lambda arguments: thread_crashed(arguments.exc_value)
