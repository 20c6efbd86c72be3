"""The channel to the payment service: who the gateway says it is, and what it may ask there."""

import contextlib
from collections.abc import AsyncIterator

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from mpesa_payments.v1.callback_service_pb2_grpc import CallbackServiceStub
from mpesa_payments.v1.passenger_service_pb2_grpc import PassengerServiceStub

from callback_gateway.alarms import CERTIFICATE_EXPIRES, TLS_FILES_UNUSABLE
from runtime.followed_channel import CertificateAlarms, followed_channel
from runtime.serving import Address
from runtime.tls import TlsFiles


class CoreChannel:
    """The stubs of the channel that is in force. Ask for them anew for each call."""

    callbacks: CallbackServiceStub
    passengers: PassengerServiceStub
    health: health_pb2_grpc.HealthStub

    def take(self, channel: grpc.aio.Channel) -> None:
        """From now on, call through this channel."""
        self.callbacks = CallbackServiceStub(channel)
        self.passengers = PassengerServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)


@contextlib.asynccontextmanager
async def core_channel(address: Address, files: TlsFiles | None) -> AsyncIterator[CoreChannel]:
    """A channel that follows its files; in plaintext without them. StartRefused where a file cannot be used now."""
    core = CoreChannel()
    async with followed_channel(address, files, CertificateAlarms(TLS_FILES_UNUSABLE, CERTIFICATE_EXPIRES), core.take):
        yield core
