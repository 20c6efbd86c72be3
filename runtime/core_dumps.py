"""No image of this process's memory is written: it would hold keys, passwords and phone numbers in clear.

The limit of size keeps the kernel from writing a file. A program that the kernel hands dumps to, as `core_pattern` may
say, is stopped by the second switch only; that one also keeps other processes of the same user from reading this one's
memory and environment. A debugger needs root then.
"""

import ctypes
import resource
import sys
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""As <linux/prctl.h> numbers it."""


def forbid_core_dumps() -> None:
    """For this process, whatever becomes of it. Programs that it starts may be read again, and have the limit still."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
