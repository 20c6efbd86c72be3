"""Runs one program and kills it when whoever asked for it is gone, however it went.

Started as a script of its own, with nothing but the standard library: `part_watchdog.py COMMAND…`. Its standard input
is a pipe of which only its parent holds the other end. The kernel closes that end even when the parent is killed with
SIGKILL, and the end of the pipe means: kill. SIGTERM is the polite order, passed on to the program, which drains.
The program's exit code becomes this one's. Should this process be killed itself, the kernel kills the program: nobody
else would. Only Linux can do that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

ORDERS = (signal.SIGTERM, signal.SIGINT)
# From linux/prctl.h: the signal that a process gets when its parent ends.
PR_SET_PDEATHSIG = 1


def main() -> int:
    # An order that comes before the program runs waits until there is someone to pass it on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, ORDERS)
    # Loaded here, as little as possible is to happen between the fork and the program.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    watchdog = os.getpid()

    def begin() -> None:
        # The program must not inherit the blocked signals.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != watchdog:
                # Killed before the kernel was told.
                os._exit(1)

    # Safe here: this process has one thread as yet, the one whose end counts as the parent's.
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=begin)
    for order in ORDERS:
        signal.signal(order, lambda *_: program.send_signal(signal.SIGTERM))
    threading.Thread(target=kill_when_parent_is_gone, args=(program,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)
    code = program.wait()
    # As a shell says it: 128 and the number of the signal that ended the program.
    return code if code >= 0 else 128 - code


def kill_when_parent_is_gone(program: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    program.kill()


if __name__ == "__main__":
    sys.exit(main())
