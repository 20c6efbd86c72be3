"""Runs one PostgreSQL program and ends it when whoever asked for it is gone, however it went.

Started as a script of its own, with nothing but the standard library: `postgres_watchdog.py OPTIONS -- COMMAND…`.
Its standard input is a pipe of which only its parent holds the other end. The kernel closes that end even when the
parent is killed with SIGKILL, and the end of the pipe is the order to stop. A normal stop is the same order.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading

# SIGINT is PostgreSQL's fast shutdown: open transactions are rolled back, a checkpoint is written.
FAST_SHUTDOWN_SECONDS = 30
# SIGQUIT is its immediate shutdown: no checkpoint, the next start recovers from the log.
IMMEDIATE_SHUTDOWN_SECONDS = 10


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lock-fd", type=int, required=True, help="kept open by the server for as long as it lives")
    parser.add_argument("--user", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    server = subprocess.Popen(
        options.command,
        stdin=subprocess.DEVNULL,
        pass_fds=(options.lock_fd,),
        user=options.user,
        group=options.group,
        extra_groups=None if options.user is None else [],
    )
    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(signal.SIGINT))
    threading.Thread(target=stop_when_parent_is_gone, args=(server,), daemon=True).start()
    return server.wait()


def stop_when_parent_is_gone(server: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    for order, patience_seconds in (
        (signal.SIGINT, FAST_SHUTDOWN_SECONDS),
        (signal.SIGQUIT, IMMEDIATE_SHUTDOWN_SECONDS),
        (signal.SIGKILL, None),
    ):
        server.send_signal(order)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(patience_seconds)
            return


if __name__ == "__main__":
    sys.exit(main())
