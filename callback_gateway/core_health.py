"""Whether the payment service can be reached, and whether it makes its tokens with the keys that this gateway has.

A gateway with other keys would refuse every callback of the service as forged, and the service would only see that none
comes.
"""

import asyncio

import grpc
from grpc_health.v1 import health_pb2
from mpesa_payments.v1 import callback_service_pb2 as pb

from callback_gateway.alarms import CALLBACK_KEYS_DIFFER
from callback_gateway.core_channel import CoreChannel
from runtime.alarms import LastingAlarm
from runtime.callback_tokens import CallbackKeys, key_checks
from runtime.followed_keys import name_of_process

HEALTH_TIME_S = 1.0
# /readyz is public: however often it is asked, the core is asked once in this time.
HEALTH_KEPT_S = 0.5

_ABOUT_CALLBACKS = health_pb2.HealthCheckRequest(service=pb.DESCRIPTOR.services_by_name["CallbackService"].full_name)


class CoreHealth:
    """What the core last said of itself, asked again when that is no longer fresh."""

    def __init__(self, core: CoreChannel, keys: CallbackKeys) -> None:
        self._core = core
        self._keys = keys
        self._process = name_of_process("callback-gateway")
        self._asking = asyncio.Lock()
        self._fresh_until = 0.0
        self._differing = LastingAlarm(CALLBACK_KEYS_DIFFER)
        self.reachable = False

    @property
    def keys_agree(self) -> bool:
        """As far as the core has told: one that is away, or is too old to compare keys, is not taken to differ."""
        return not self._differing.raised

    async def look(self) -> None:
        """Ask the core, unless it has just been asked."""
        async with self._asking:
            if asyncio.get_running_loop().time() < self._fresh_until:
                return
            try:
                # Only about callbacks: a core takes them also while it is not ready for payments.
                reply = await self._core.health.Check(_ABOUT_CALLBACKS, timeout=HEALTH_TIME_S)
                self.reachable = reply.status == health_pb2.HealthCheckResponse.SERVING
            except grpc.aio.AioRpcError:
                self.reachable = False
            if self.reachable:
                await self._compare_keys()
            self._fresh_until = asyncio.get_running_loop().time() + HEALTH_KEPT_S

    async def _compare_keys(self) -> None:
        checks = [pb.CallbackKeyCheck(key_id=key_id, check=check) for key_id, check in key_checks(self._keys).items()]
        request = pb.CheckCallbackKeysRequest(keys=checks, process=self._process)
        try:
            reply = await self._core.callbacks.CheckCallbackKeys(request, timeout=HEALTH_TIME_S)
            differing = list(reply.differing_key_ids)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                return
            differing = []
        self._differing.set(bool(differing), key_ids=differing)
