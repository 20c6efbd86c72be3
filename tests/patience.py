"""How long a test waits for what must come: far longer than it takes, however busy the machine, so that the wait is
used up only when something is broken."""

from development.slowness import slowness

PATIENCE_SECONDS = 60.0 * slowness()
