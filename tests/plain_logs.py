"""How what is logged looks in the report of a test that fails."""

import structlog


def log_plainly() -> None:
    """For all tests, and again after one with logs of its own. A usual traceback of structlog takes half a second."""
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
