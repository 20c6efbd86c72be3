"""The service's settings: what an operator would change, each with its unit. All else is a constant.

Read at the top, by `app`, `credentials` and the operators' commands, and passed down as values.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from payment_service.backing_settings import BackingSettings
from payment_service.daraja.shortcodes import (
    AMOUNT_MAX,
    MOBILE_NUMBER,
    SANDBOX_URL,
    SHORTCODE_NUMBER,
    check_daraja_url,
    is_production,
)
from payment_service.domain.approvals import APPROVAL_ABOVE
from payment_service.domain.automatic_refunds import KES_PER_HOUR, REFUNDS_PER_HOUR
from payment_service.domain.payment import Times
from payment_service.domain.refund import RefundTimes
from payment_service.receipt_settings import ReceiptSettings
from payment_service.retention_settings import RetentionSettings
from payment_service.risk_settings import RiskSettings
from payment_service.secret_settings import SecretsInFiles, checked_database_url
from runtime.serving import Address
from runtime.settings import AddressSetting, FileSetting
from runtime.tls import TlsFiles, TlsSettingsMissing, Use, tls_files

LEASE_MARGIN_S = 2.5
"""What a claim must leave beyond the longest push: 2 s for recording its outcome, and a moment until it begins."""

SANDBOX_QUERIES, PRODUCTION_QUERIES = 5.0, 60.0
"""A minute. The sandbox refuses the sixth; the limit of production is set for each app, and nowhere published."""


_BOTH_CHOSEN = "PAYMENTS_PLAINTEXT is set beside files for TLS: unset one or the other"


class OperatorSettings(SecretsInFiles):
    """What a client of the running service takes, from the same PAYMENTS_* as the service: where it is, who we are."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="PAYMENTS_")

    grpc_address: AddressSetting = Field(default=Address("127.0.0.1", 50051), description="HOST:PORT of the service")
    plaintext: bool = Field(
        default=False,
        description="true: calls are neither encrypted nor told apart, and stay on the loopback",
    )
    client_certificate_file: FileSetting = Field(
        default=None, description="PEM file of the certificate that names whoever runs an operator's command"
    )
    client_key_file: FileSetting = Field(default=None, description="PEM file of that certificate's key")
    service_ca_file: FileSetting = Field(
        default=None, description="PEM file of the authority that has signed the service's certificate"
    )

    @model_validator(mode="after")
    def _operators_choose_plaintext_or_files(self) -> Self:
        if self.plaintext and any((self.client_certificate_file, self.client_key_file, self.service_ca_file)):
            raise ValueError(_BOTH_CHOSEN)
        return self

    @property
    def client_tls(self) -> TlsFiles | None:
        """What an operator's command shows to the service; None in plaintext. TlsSettingsMissing says what lacks."""
        if self.plaintext:
            return None
        return tls_files(
            ("PAYMENTS_CLIENT_CERTIFICATE_FILE", self.client_certificate_file),
            ("PAYMENTS_CLIENT_KEY_FILE", self.client_key_file),
            ("PAYMENTS_SERVICE_CA_FILE", self.service_ca_file),
            use=Use.CLIENT,
        )


class InspectionSettings(OperatorSettings):
    """What reading the stored payments takes besides: the database and the keys."""

    database_url: SecretStr = Field(description="postgresql://USER:PASSWORD@HOST:PORT/DATABASE of the application role")
    keys_file: Path = Field(description="file of the service's own keys; made by payment-service create-keys")


class AuditSettings(InspectionSettings):
    """What anchoring the log takes besides: where its anchors are kept."""

    audit_anchor_file: FileSetting = Field(
        default=None,
        description="file, outside the database, to which a line about the log of each day is appended; empty: none",
    )


class KeySettings(InspectionSettings):
    """What replacing keys takes besides: the keys that the gateways hold as well."""

    callback_keys_file: Path = Field(description="file of the keys for callback tokens, the same as the gateway's")


class TimedSettings(InspectionSettings, BackingSettings):
    """What deciding takes besides: the same times as the service's."""

    expire_after_s: float = Field(default=120, gt=0, le=3600, description="from the send to EXPIRED, seconds")
    send_within_s: float = Field(
        default=20, gt=0, le=600, description="from creation until a send is given up, seconds"
    )
    lease_s: float = Field(default=45, gt=0, le=600, description="how long a claim to send lasts, seconds")
    retry_wait_s: float = Field(default=180, ge=0, le=3600, description="from a send to the next attempt, seconds")
    watch_for_s: float = Field(
        default=172_800,
        gt=0,
        le=604_800,
        description="from the send until an expired payment is surely unpaid, seconds",
    )
    query_after_s: float = Field(
        default=30, gt=0, le=600, description="from a send to the first query about it, seconds; later ones follow"
    )

    @property
    def times(self) -> Times:
        """The times of the domain, where an operator has a say in them."""
        return Times(
            expire_after=timedelta(seconds=self.expire_after_s),
            send_within=timedelta(seconds=self.send_within_s),
            lease=timedelta(seconds=self.lease_s),
            retry_wait=timedelta(seconds=self.retry_wait_s),
            watch_for=timedelta(seconds=self.watch_for_s),
            query_after=timedelta(seconds=self.query_after_s),
            back_after=timedelta(seconds=self.back_after_s),
            backed_within=timedelta(seconds=self.backed_within_s),
        )

    @property
    def refund_times(self) -> RefundTimes:
        """The same of refunds: a result that is missing is asked for when a push has been asked about twice."""
        return RefundTimes(
            lease=timedelta(seconds=self.lease_s), result_within=timedelta(seconds=2 * self.query_after_s)
        )


class PaymentSettings(TimedSettings, KeySettings, AuditSettings, RiskSettings, RetentionSettings, ReceiptSettings):
    """Read from PAYMENTS_* in the environment; flags win."""

    other_names: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("LISTEN", "LISTEN_ADDRESS", "ADDRESS", "BIND", "HOST", "PORT", "GRPC_PORT"), "GRPC_ADDRESS"
    )

    grpc_address: AddressSetting = Field(
        default=Address("127.0.0.1", 50051), description="HOST:PORT to serve gRPC on; port 0 picks a free one"
    )
    json_address: AddressSetting | None = Field(
        default=None, description="HOST:PORT to take payments as JSON on, apart from gRPC; empty: none are taken"
    )
    tls_certificate_file: FileSetting = Field(
        default=None,
        description="PEM file of the service's certificate, and of those between it and its authority",
    )
    tls_key_file: FileSetting = Field(default=None, description="PEM file of that certificate's key")
    tls_client_ca_file: FileSetting = Field(
        default=None, description="PEM file of the authority that signs the certificates of callers"
    )
    callers_file: FileSetting = Field(
        default=None, description="JSON file of the callers: the name, SPIFFE URI and party of each"
    )
    shortcodes_file: Path = Field(description="JSON file of the shortcodes that receive money, with their passkeys")
    daraja_base_url: str = Field(default=SANDBOX_URL, description="Daraja: sandbox, production, or a simulator")
    daraja_consumer_key: SecretStr = Field(
        default=SecretStr(""),
        description="consumer key of the Daraja app of the shortcodes that name none of their own",
    )
    daraja_consumer_secret: SecretStr = Field(default=SecretStr(""), description="consumer secret of that app")
    callback_base_url: str = Field(description="where Safaricom reaches the gateway: https://HOST, without a path")
    metrics_address: AddressSetting | None = Field(
        default=None, description="HOST:PORT of a page for Prometheus, with a listener of its own; empty: no page"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least severe lines to log"
    )

    push_timeout_s: float = Field(default=30, gt=0, le=120, description="longest wait for Daraja's answer, seconds")
    heartbeat_s: float = Field(default=15, gt=0, le=15, description="between two messages of an idle stream, seconds")
    drain_s: float = Field(default=20, gt=0, le=300, description="longest time for open calls at a stop, seconds")
    pushes_per_second: float = Field(
        default=50, gt=0, le=5_000, description="pushes a second for one shortcode, all processes together"
    )
    queries_per_minute: float = Field(
        default_factory=lambda given: PRODUCTION_QUERIES if _in_production(given) else SANDBOX_QUERIES,
        gt=0,
        le=60_000,
        description="queries a minute as one Daraja app, all processes together",
    )
    refunds_per_second: float = Field(
        default=5, gt=0, le=1_000, description="refunds a second for one shortcode, all processes together"
    )
    b2c_shortcode: str = Field(
        default="",
        description="shortcode that parts of payments go back from; empty: the one that was paid, which a till cannot",
    )
    b2c_command: Literal["BusinessPayment", "SalaryPayment", "PromotionPayment"] = Field(
        default="BusinessPayment", description="what Safaricom has set up that shortcode for"
    )
    automatic_refund_max_kes: int = Field(
        default=0,
        ge=0,
        le=AMOUNT_MAX,
        description="up to which amount late money goes back by itself; 0: never, and no caller may ask for it",
    )
    automatic_refund_of_duplicates: bool = Field(
        default=False,
        description="up to that amount, also the second payment of a booking that another attempt has confirmed",
    )
    automatic_refunds_per_hour: int = Field(
        default=REFUNDS_PER_HOUR,
        ge=1,
        le=1_000_000,
        description="how many payments go back by themselves in an hour, all processes together; the rest are cases",
    )
    automatic_refund_kes_per_hour: int = Field(
        default=KES_PER_HOUR, ge=1, le=1_000_000_000, description="how much money does; the rest are cases"
    )
    approval_above_kes: int = Field(
        default=APPROVAL_ABOVE,
        ge=0,
        le=AMOUNT_MAX,
        description="above which amount a second operator has to approve a refund that an operator asks for; 0: any",
    )
    pull_nominated_number: str = Field(
        default="",
        description="MSISDN the shortcodes are registered with for Pull Transactions; empty: the books are not read",
    )
    pull_interval_s: float = Field(
        default=600, ge=1, le=86_400, description="between two readings of a shortcode's books, seconds"
    )
    initiator_name: str = Field(
        default="",
        description="operator of M-Pesa as whom statuses are asked for and money is sent back; empty: neither",
    )
    initiator_password: SecretStr = Field(default=SecretStr(""), description="password of that operator")
    initiator_certificate_file: Path | None = Field(
        default=None, description="Safaricom's certificate, PEM or DER, that the password is encrypted for"
    )
    initiator_password_set_on: date | None = Field(
        default=None,
        description="day in Nairobi on which that password was set, YYYY-MM-DD; it expires 90 days later",
    )
    watchers_max: int = Field(default=12_000, ge=1, le=100_000, description="open streams this process may serve")

    @field_validator("database_url")
    @classmethod
    def _database_of_postgresql(cls, url: SecretStr) -> SecretStr:
        return checked_database_url(url)

    @field_validator("daraja_base_url")
    @classmethod
    def _daraja_may_be_called(cls, url: str) -> str:
        check_daraja_url(url)
        return url

    @field_validator("pull_nominated_number")
    @classmethod
    def _msisdn_or_nothing(cls, number: str) -> str:
        if number and not MOBILE_NUMBER.fullmatch(number):
            raise ValueError("expected 2547XXXXXXXX or 2541XXXXXXXX")
        return number

    @model_validator(mode="after")
    def _times_fit_together(self) -> Self:
        if self.lease_s < self.push_timeout_s + LEASE_MARGIN_S:
            # A push may leave only while its claim outlasts it, so with less no push would ever be sent.
            raise ValueError(
                f"PAYMENTS_LEASE_S ({self.lease_s:g}) has to be at least {LEASE_MARGIN_S:g} s more than"
                f" PAYMENTS_PUSH_TIMEOUT_S ({self.push_timeout_s:g})"
            )
        if self.retry_wait_s < self.push_timeout_s:
            # Else two prompts could be on one phone.
            raise ValueError(
                f"PAYMENTS_RETRY_WAIT_S ({self.retry_wait_s:g}) has to be at least PAYMENTS_PUSH_TIMEOUT_S"
                f" ({self.push_timeout_s:g}): an earlier push may still be under way"
            )
        if self.watch_for_s < self.expire_after_s:
            raise ValueError(
                f"PAYMENTS_WATCH_FOR_S ({self.watch_for_s:g}) has to be at least PAYMENTS_EXPIRE_AFTER_S"
                f" ({self.expire_after_s:g}): a payment that has not expired is not surely unpaid"
            )
        return self

    @model_validator(mode="after")
    def _calls_are_protected(self) -> Self:
        """Plaintext stays on this machine: its calls are not encrypted, and its callers not told apart."""
        given = [self.tls_certificate_file, self.tls_key_file, self.tls_client_ca_file, self.callers_file]
        if self.plaintext and any(given):
            raise ValueError(_BOTH_CHOSEN)
        if self.plaintext and not self.grpc_address.is_loopback:
            raise ValueError(
                f"PAYMENTS_GRPC_ADDRESS ({self.grpc_address}) has to be an address on this machine (loopback), since"
                " PAYMENTS_PLAINTEXT leaves calls unencrypted"
            )
        try:
            if self.server_tls is not None and self.callers_file is None:
                raise TlsSettingsMissing(["PAYMENTS_CALLERS_FILE"])
        except TlsSettingsMissing as missing:
            raise ValueError(
                f"{missing}. To take calls in plaintext, and from here only, set PAYMENTS_PLAINTEXT=true or --plaintext"
            ) from None
        return self

    @property
    def server_tls(self) -> TlsFiles | None:
        """What the service shows to callers; None in plaintext."""
        if self.plaintext:
            return None
        return tls_files(
            ("PAYMENTS_TLS_CERTIFICATE_FILE", self.tls_certificate_file),
            ("PAYMENTS_TLS_KEY_FILE", self.tls_key_file),
            ("PAYMENTS_TLS_CLIENT_CA_FILE", self.tls_client_ca_file),
            use=Use.SERVER,
        )

    @field_validator("b2c_shortcode")
    @classmethod
    def _shortcode_or_nothing(cls, number: str) -> str:
        if number and not SHORTCODE_NUMBER.fullmatch(number):
            raise ValueError("expected 5 to 7 digits")
        return number

    @model_validator(mode="after")
    def _app_is_whole(self) -> Self:
        key, secret = self.daraja_consumer_key.get_secret_value(), self.daraja_consumer_secret.get_secret_value()
        if bool(key) != bool(secret):
            given, missing = ("KEY", "SECRET") if key else ("SECRET", "KEY")
            raise ValueError(
                f"PAYMENTS_DARAJA_CONSUMER_{given}_FILE needs PAYMENTS_DARAJA_CONSUMER_{missing}_FILE beside it"
            )
        return self

    @model_validator(mode="after")
    def _initiator_is_whole(self) -> Self:
        given = {
            "PAYMENTS_INITIATOR_NAME": bool(self.initiator_name),
            "PAYMENTS_INITIATOR_PASSWORD_FILE": bool(self.initiator_password.get_secret_value()),
            "PAYMENTS_INITIATOR_CERTIFICATE_FILE": self.initiator_certificate_file is not None,
        }
        if any(given.values()) and not all(given.values()):
            missing = ", ".join(name for name, is_given in given.items() if not is_given)
            raise ValueError(f"Transaction Status and refunds need {missing} as well")
        if self.automatic_refund_of_duplicates and not self.automatic_refund_max_kes:
            raise ValueError(
                "PAYMENTS_AUTOMATIC_REFUND_OF_DUPLICATES needs PAYMENTS_AUTOMATIC_REFUND_MAX_KES: up to which amount"
            )
        return self


class OwnerSettings(SecretsInFiles):
    """What `payment-service migrate` needs: the database as its owner, and the role the service logs in as."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="PAYMENTS_OWNER_")

    database_url: SecretStr = Field(description="postgresql://USER:PASSWORD@HOST:PORT/DATABASE of the owner")
    application_role: str = Field(default="", description="role that the service logs in as; empty: make none")
    application_password: SecretStr = Field(default=SecretStr(""), description="password of that role")
    reader_role: str = Field(default="", description="role that check, explain and audit log in as; empty: make none")
    reader_password: SecretStr = Field(default=SecretStr(""), description="password of that role")

    @field_validator("database_url")
    @classmethod
    def _database_of_postgresql(cls, url: SecretStr) -> SecretStr:
        return checked_database_url(url)


def _in_production(given: Mapping[str, object]) -> bool:
    url = given.get("daraja_base_url")
    return isinstance(url, str) and is_production(url)
