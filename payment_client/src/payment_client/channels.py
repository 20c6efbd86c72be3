"""The one channel of a client: opened by the first call, in the process that makes it, with what the files hold."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import grpc

from payment_client.diagnosis import Endpoint
from payment_client.options import Option, channel_options

Channel = TypeVar("Channel")


class UsedAcrossFork(RuntimeError):
    """This client was used before the process forked, and its connection belongs to the parent.

    Make the client in each worker (gunicorn: `post_fork`; uWSGI: `@postfork`), or do not use it before the fork: it
    opens its channel with its first call.
    """

    def __init__(self) -> None:
        super().__init__(" ".join((self.__doc__ or "").split()))


class Channels(Generic[Channel]):
    """Opens a channel once, and another when certificates were renewed: calls that are open end on the old one."""

    def __init__(
        self,
        endpoint: Endpoint,
        secure: Callable[[str, grpc.ChannelCredentials, Sequence[Option]], Channel],
        plaintext: Callable[[str, Sequence[Option]], Channel],
        given: Channel | None = None,
    ) -> None:
        """`given` is a channel that somebody else has opened."""
        self._endpoint = endpoint
        self._secure, self._plaintext = secure, plaintext
        self._lock = threading.Lock()
        self._opened: list[Channel] = [] if given is None else [given]
        self._process = os.getpid()
        self._stamp = self._stamp_of_files()

    def current(self) -> Channel:
        """The channel for a call that begins now."""
        with self._lock:
            stamp = self._stamp_of_files()
            if self._opened and self._process != os.getpid():
                raise UsedAcrossFork
            if not self._opened or stamp != self._stamp:
                self._opened.append(self._open())
                self._process, self._stamp = os.getpid(), stamp
            return self._opened[-1]

    def take_all(self) -> list[Channel]:
        """Every channel that is to be closed. The next call opens a new one."""
        with self._lock:
            opened, self._opened = self._opened, []
            return opened if self._process == os.getpid() else []

    def _stamp_of_files(self) -> tuple[tuple[int, int], ...]:
        return self._endpoint.tls.stamp() if self._endpoint.tls is not None else ()

    def _open(self) -> Channel:
        endpoint = self._endpoint
        options = channel_options(proxy=endpoint.proxy)
        if endpoint.tls is None:
            return self._plaintext(endpoint.target, options)
        return self._secure(endpoint.target, endpoint.tls.credentials(), options)
