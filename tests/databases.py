"""The database that a test is given, and the servers that hold such databases."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from development.postgres import EmbeddedServer

APPLICATION_ROLE = "payments_application"
TEMPLATE = "migrated_template"
NEWEST_POSTGRES = 18

PostgresServers = Callable[[int], Awaitable[EmbeddedServer]]


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a test's own. The owner migrates; the service runs as the application."""

    name: str
    server: EmbeddedServer
    owner_url: str
    application_url: str
