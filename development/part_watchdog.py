"""Runs one program and kills it when whoever asked for it is gone, however it went.

Started as a script of its own, with nothing but the standard library: `part_watchdog.py COMMAND…`. Its standard input
is a pipe of which only its parent holds the other end. The kernel closes that end even when the parent is killed with
SIGKILL, and the end of the pipe means: kill. SIGTERM is the polite order, passed on to the program, which drains.
The program's exit code becomes this one's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

ORDERS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    # An order that comes before the program runs waits until there is someone to pass it on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, ORDERS)
    program = subprocess.Popen(
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        # Safe here: this process has one thread as yet. The program must not inherit the blocked signals.
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS),
    )
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
