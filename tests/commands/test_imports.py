"""What a start pays for: the modules that `payment-service` imports before it knows what it is asked for, and after."""

import subprocess
import sys

PROGRAM = """
import sys
import payment_service.__main__
print(*sys.modules)
import payment_service.app, runtime.exporting
print(*sys.modules)
"""

ONLY_WITH_A_DATABASE = {"aiohttp", "httpx", "phonenumbers", "psycopg", "sqlalchemy"}
ONLY_WHERE_ASKED_FOR = {
    "aiohttp.web",  # payments as JSON
    "alembic",  # a migration
    "fpdf",  # the first receipt
    "opentelemetry.exporter.otlp.proto.grpc",
    "prometheus_client",
    "segno",
}


def test_a_start_imports_only_what_the_command_needs() -> None:
    """Each of them takes 0.05 to 0.6 s of processor time, and whoever asks for one payment waits for it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    of_each_command, of_serve = (set(line.split()) for line in done.stdout.splitlines())
    assert of_each_command & (ONLY_WITH_A_DATABASE | ONLY_WHERE_ASKED_FOR) == set()
    assert of_serve >= ONLY_WITH_A_DATABASE
    assert of_serve & ONLY_WHERE_ASKED_FOR == set()
