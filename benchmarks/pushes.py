"""Loads a simulator by itself: pushes over keep-alive connections, as fast as it answers. Prints one JSON line.

It writes and reads HTTP by hand, because on two cores every microsecond of the load is taken from what is measured.
"""

import argparse
import asyncio
import base64
import itertools
import json
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import uvloop

from benchmarks.load import PHONES_FROM
from development.credentials import SANDBOX_PASSKEY, SIMULATOR_CONSUMER_KEY, SIMULATOR_CONSUMER_SECRET

SHORTCODE = "174379"
TOKEN_WAIT_SECONDS = 10.0


async def send_pushes(base_url: str, callback_url: str, connections: int, seconds: float) -> None:
    """Push on every connection until the time is over, once at least."""
    host, port = urlsplit(base_url).hostname, urlsplit(base_url).port
    token = await asyncio.to_thread(fetch_token, base_url)
    head = (
        f"POST /mpesa/stkpush/v1/processrequest HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: "
    )
    numbers, refused = itertools.count(), 0
    began = time.time()
    end = began + seconds

    async def pusher() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection(host, port)
        bodies = push_bodies(callback_url, numbers)
        while True:
            body = next(bodies)
            writer.write(f"{head}{len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            at = answer.lower().index(b"content-length:") + 15
            await reader.readexactly(int(answer[at:].split(b"\r\n", 1)[0]))
            refused += not answer.startswith(b"HTTP/1.1 200")
            if time.time() >= end:
                break
        writer.close()

    async with asyncio.TaskGroup() as pushers:
        for _ in range(connections):
            pushers.create_task(pusher())
    result = {"pushes": next(numbers), "refused": refused, "began_time": began}
    sys.stdout.write(json.dumps(result) + "\n")


def push_bodies(callback_url: str, numbers: Iterator[int]) -> Iterator[str]:
    """Bodies of pushes, each to a phone of its own."""
    timestamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + 3 * 3600))
    password = base64.b64encode(f"{SHORTCODE}{SANDBOX_PASSKEY}{timestamp}".encode()).decode()
    fixed = {
        "BusinessShortCode": SHORTCODE,
        "Password": password,
        "Timestamp": timestamp,
        "TransactionType": "CustomerPayBillOnline",
        "Amount": 500,
        "PartyB": SHORTCODE,
        "CallBackURL": callback_url,
        "AccountReference": "BENCH",
        "TransactionDesc": "Booking",
    }
    rest = json.dumps(fixed)[1:]
    for number in numbers:
        phone = PHONES_FROM + number
        yield f'{{"PartyA": "{phone}", "PhoneNumber": "{phone}", {rest}'


def fetch_token(base_url: str) -> str:
    """A token of the simulator."""
    credentials = base64.b64encode(f"{SIMULATOR_CONSUMER_KEY}:{SIMULATOR_CONSUMER_SECRET}".encode()).decode()
    url = f"{base_url}/oauth/v1/generate?grant_type=client_credentials"
    request = Request(url, headers={"Authorization": f"Basic {credentials}"})
    with urlopen(request, timeout=TOKEN_WAIT_SECONDS) as answer:
        return str(json.loads(answer.read())["access_token"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="of the simulator")
    parser.add_argument("--callback-url", required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    uvloop.run(send_pushes(arguments.url, arguments.callback_url, arguments.connections, arguments.seconds))


if __name__ == "__main__":
    main()
