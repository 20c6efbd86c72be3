"""How the benchmark's clients reach a service: in plaintext, or over TLS as the caller `booking`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import grpc.aio

from runtime.grpc_options import CLIENT_OPTIONS
from runtime.serving import parse_address
from runtime.tls import open_channel


def add_service(parser: argparse.ArgumentParser) -> None:
    """The words by which a client is told of its service."""
    parser.add_argument("--address", required=True, help="HOST:PORT of the service")
    parser.add_argument("--certificates", type=Path, help="folder of what callers show (default: plaintext)")


def channel_to_service(
    arguments: argparse.Namespace, options: Sequence[tuple[str, object]] = CLIENT_OPTIONS
) -> grpc.aio.Channel:
    """A channel to the service that the words name."""
    shown = None
    if arguments.certificates is not None:
        # What makes certificates takes half of the start of a client, and most clients show none.
        from development.certificates import BOOKING, Certificates

        shown = Certificates(arguments.certificates).content(BOOKING)
    return open_channel(parse_address(arguments.address), shown, options)
