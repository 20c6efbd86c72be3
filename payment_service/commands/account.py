"""The name of whoever types a command."""

import os
import pwd


def account() -> str:
    """Who runs this, by the operating system and not by the environment, which anybody can set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user-{os.getuid()}"
