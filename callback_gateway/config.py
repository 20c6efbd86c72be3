"""The gateway's settings: what an operator would change, each with its unit. All else is a constant."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from callback_gateway.origins import Origins, OriginsSetting
from callback_gateway.sources import SAFARICOM
from runtime.networks import Networks, NetworksSetting
from runtime.serving import Address
from runtime.settings import AddressSetting, FileSetting, ProgramSettings
from runtime.tls import TlsFiles, TlsSettingsMissing, Use, tls_files


class GatewaySettings(ProgramSettings):
    """Read from GATEWAY_* in the environment; flags win."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="GATEWAY_")

    listen_address: AddressSetting = Field(
        default=Address("127.0.0.1", 8080),
        description="HOST:PORT to take callbacks and browsers on; port 0: a free one",
    )
    core_address: AddressSetting = Field(
        default=Address("127.0.0.1", 50051), description="HOST:PORT of the payment service's gRPC server"
    )
    plaintext: bool = Field(
        default=False,
        description="true: the payment service is called without encryption, on this machine's loopback only",
    )
    core_certificate_file: FileSetting = Field(
        default=None, description="PEM file of the certificate that names this gateway to the payment service"
    )
    core_key_file: FileSetting = Field(default=None, description="PEM file of that certificate's key")
    core_ca_file: FileSetting = Field(
        default=None, description="PEM file of the authority that has signed the payment service's certificate"
    )
    callback_keys_file: Path = Field(
        description="file of the keys for callback tokens, the same as the payment service's"
    )
    proxy_addresses: NetworksSetting = Field(
        default=Networks(),
        description="addresses of the proxy in front, with commas between: what it says of the sender is believed",
    )
    callback_sources: NetworksSetting = Field(
        default=SAFARICOM,
        description="addresses and networks that callbacks are expected from; one from elsewhere is an alarm",
    )
    metrics_address: AddressSetting | None = Field(
        default=None, description="HOST:PORT of a page for Prometheus, with a listener of its own; empty: no page"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least severe lines to log"
    )

    body_max_bytes: int = Field(default=65_536, ge=1, le=65_536, description="longest body of a callback, bytes")
    body_time_s: float = Field(default=3.0, gt=0, le=60, description="longest time for a body to arrive, seconds")
    header_time_s: float = Field(
        default=5.0, gt=0, le=60, description="longest time for a request's header to arrive, seconds"
    )
    idle_time_s: float = Field(
        default=75.0, gt=0, le=3600, description="how long an idle connection is kept for the next request, seconds"
    )
    # Together with `spool_time_s` within the 5 s in which Safaricom wants its answer.
    # Below 2.6 s, callbacks are kept in outages that are too short for the service's timers to notice.
    forward_time_s: float = Field(
        default=3.0, gt=0, le=30, description="longest time for the payment service to store a callback, seconds"
    )
    connections_max: int = Field(default=2_000, ge=1, le=50_000, description="most connections open at a time")
    callbacks_waiting_max: int = Field(
        default=1_024, ge=1, le=100_000, description="most callbacks waiting for the payment service at a time"
    )

    passenger_origins: OriginsSetting = Field(
        default=Origins(),
        description="origins of the web pages that may show passengers their payment, with commas between",
    )
    passenger_streams_max: int = Field(
        default=500,
        ge=0,
        le=25_000,
        description="most live event streams at a time; never more than half of the connections",
    )

    spool_folder: FileSetting = Field(
        default=None,
        description="folder on a lasting volume, of this gateway alone, for callbacks that the payment service cannot "
        "take now; empty: those are answered 503",
    )
    spool_keys_file: FileSetting = Field(
        default=None,
        description="file of the keys that the spool is sealed with, on a lasting volume; made at the first start",
    )
    spool_max_bytes: int = Field(
        default=1_000_000_000,
        ge=1_000_000,
        description="most room that the spool may take, with what it keeps for an operator, bytes",
    )
    spool_time_s: float = Field(
        default=1.5, gt=0, le=30, description="longest time for a callback to be safe in the spool, seconds"
    )

    @model_validator(mode="after")
    def _spool_has_keys(self) -> Self:
        if self.spool_folder is not None and self.spool_keys_file is None:
            raise ValueError(
                "GATEWAY_SPOOL_FOLDER needs GATEWAY_SPOOL_KEYS_FILE, best not in that folder: "
                "whoever finds both can read the callbacks"
            )
        return self

    @model_validator(mode="after")
    def _core_is_called_safely(self) -> Self:
        """What the channel carries are tokens and phone numbers, so without encryption it stays on this machine."""
        if self.plaintext and any((self.core_certificate_file, self.core_key_file, self.core_ca_file)):
            raise ValueError("GATEWAY_PLAINTEXT is set beside files for TLS: unset one or the other")
        if self.plaintext and not self.core_address.is_loopback:
            raise ValueError(
                f"GATEWAY_CORE_ADDRESS ({self.core_address}) has to be an address on this machine (loopback), since"
                " GATEWAY_PLAINTEXT leaves the connection unencrypted"
            )
        try:
            _ = self.core_tls
        except TlsSettingsMissing as missing:
            raise ValueError(
                f"{missing}. To call a service on this machine in plaintext, set GATEWAY_PLAINTEXT=true or --plaintext"
            ) from None
        return self

    @property
    def core_tls(self) -> TlsFiles | None:
        """What the gateway shows to the payment service; None in plaintext."""
        if self.plaintext:
            return None
        return tls_files(
            ("GATEWAY_CORE_CERTIFICATE_FILE", self.core_certificate_file),
            ("GATEWAY_CORE_KEY_FILE", self.core_key_file),
            ("GATEWAY_CORE_CA_FILE", self.core_ca_file),
            use=Use.CLIENT,
        )
