"""The desk's settings: what an operator would change, each with its unit. All else is a constant."""

import re
from collections.abc import Mapping
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from runtime.networks import Networks, NetworksSetting
from runtime.serving import Address
from runtime.settings import AddressSetting, FileSetting, ProgramSettings
from runtime.tls import TlsFiles, TlsSettingsMissing, Use, tls_files

SECRET_MIN: Final = 32
"""Characters: nobody guesses so many."""
_ORIGIN: Final = re.compile(r"https://[a-z0-9.\[\]:-]+|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?")
_HEADER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_NO_PERSONS_HEADER: Final = frozenset(
    {"host", "x-desk-secret", "origin", "cookie", "connection", "content-length", "content-type", "transfer-encoding"}
)
"""What browsers or the proxy write there is no person."""


class DeskSettings(ProgramSettings):
    """Read from DESK_* in the environment; flags win."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="DESK_")

    listen_address: AddressSetting = Field(
        default=Address("127.0.0.1", 8100), description="HOST:PORT to serve the pages on; port 0: a free one"
    )
    tls_certificate_file: FileSetting = Field(
        default=None, description="PEM file of the certificate that the desk shows to browsers, or to the proxy"
    )
    tls_key_file: FileSetting = Field(default=None, description="PEM file of that certificate's key")
    tls_client_ca_file: FileSetting = Field(
        default=None, description="PEM file of the authority that has signed people's certificates, or the proxy's"
    )
    proxy_addresses: NetworksSetting = Field(
        default=Networks(),
        description="addresses of the proxy that people log in at, with commas between; empty: by certificate",
    )
    proxy_secret: SecretStr | None = Field(
        default=None, description="what the proxy sends in X-Desk-Secret, so that its word is believed"
    )
    person_header: str = Field(
        default="X-Forwarded-User", description="header in which the proxy names the person who is logged in"
    )
    origin: str = Field(
        default="",
        description="how browsers name the desk, such as https://desk.example.org; behind a proxy required,"
        " without one empty: as they ask for it",
    )
    core_address: AddressSetting = Field(
        default=Address("127.0.0.1", 50051), description="HOST:PORT of the payment service's gRPC server"
    )
    plaintext: bool = Field(
        default=False,
        description="true: the payment service is called without encryption, on this machine's loopback only",
    )
    core_certificate_file: FileSetting = Field(
        default=None, description="PEM file of the certificate that names this desk to the payment service"
    )
    core_key_file: FileSetting = Field(default=None, description="PEM file of that certificate's key")
    core_ca_file: FileSetting = Field(
        default=None, description="PEM file of the authority that has signed the payment service's certificate"
    )
    metrics_address: AddressSetting | None = Field(
        default=None, description="HOST:PORT of a page for Prometheus, with a listener of its own; empty: no page"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least severe lines to log"
    )

    @classmethod
    def why_files_only(cls, _environment: Mapping[str, str | None]) -> str | None:
        """Whoever knows the secret may be anybody at the desk."""
        return "other programs of this user can read it there"

    @field_validator("origin")
    @classmethod
    def _origin_is_one(cls, origin: str) -> str:
        if origin and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                "expected https:// and a host in small letters, without a path, such as https://desk.example.org"
                " (http:// only on this machine's loopback)"
            )
        return origin

    @field_validator("person_header")
    @classmethod
    def _header_can_name_a_person(cls, header: str) -> str:
        if not _HEADER.fullmatch(header) or header.lower() in _NO_PERSONS_HEADER:
            raise ValueError(
                "expected the name of a header that the proxy sets for this alone, such as X-Forwarded-User"
            )
        return header

    @field_validator("proxy_addresses")
    @classmethod
    def _proxy_is_not_everybody(cls, addresses: Networks) -> Networks:
        if any(network.prefixlen == 0 for network in addresses):
            raise ValueError("expected the addresses of the proxy: 0.0.0.0/0 and ::/0 are everybody's")
        return addresses

    @model_validator(mode="after")
    def _people_are_known(self) -> Self:
        """Nothing is served to somebody whose name nobody vouches for."""
        try:
            tls = self.tls
        except TlsSettingsMissing as missing:
            raise ValueError(str(missing)) from None
        if tls is None and not self.listen_address.is_loopback:
            raise ValueError(
                f"DESK_LISTEN_ADDRESS ({self.listen_address}) can be reached from other machines, and the pages"
                " would be in plaintext: set DESK_TLS_CERTIFICATE_FILE, DESK_TLS_KEY_FILE and DESK_TLS_CLIENT_CA_FILE"
            )
        if self.proxy_addresses:
            secret = self.proxy_secret.get_secret_value() if self.proxy_secret is not None else ""
            if len(secret) < SECRET_MIN:
                raise ValueError(
                    "DESK_PROXY_ADDRESSES needs DESK_PROXY_SECRET_FILE, a file with the secret that the proxy sends, of"
                    f" at least {SECRET_MIN} characters"
                )
            if not self.origin:
                # What a proxy passes on as the host is the browser's word, and would be compared with itself.
                raise ValueError(
                    "DESK_PROXY_ADDRESSES needs DESK_ORIGIN, how browsers name the desk at the proxy, such as"
                    " https://desk.example.org: only forms of its own pages are taken"
                )
        elif tls is None:
            raise ValueError(
                "nothing says who is logged in: set DESK_PROXY_ADDRESSES and DESK_PROXY_SECRET_FILE for a proxy that"
                " people log in at, or DESK_TLS_CERTIFICATE_FILE, DESK_TLS_KEY_FILE and DESK_TLS_CLIENT_CA_FILE for"
                " people who show certificates"
            )
        elif self._trusts_the_services_authority():
            raise ValueError(
                "DESK_TLS_CLIENT_CA_FILE is the authority of DESK_CORE_CA_FILE, and everybody whom that has signed"
                " would be a person: name an authority that signs people's certificates only"
            )
        return self

    def _trusts_the_services_authority(self) -> bool:
        try:
            people, core = (path and path.read_text() for path in (self.tls_client_ca_file, self.core_ca_file))
        except (OSError, UnicodeError):
            # Whoever reads the files for use says which of them cannot be read.
            return False
        return isinstance(people, str) and isinstance(core, str) and people.split() == core.split()

    @model_validator(mode="after")
    def _core_is_called_safely(self) -> Self:
        if self.plaintext and any((self.core_certificate_file, self.core_key_file, self.core_ca_file)):
            raise ValueError("DESK_PLAINTEXT is set beside files for TLS: unset one or the other")
        if self.plaintext and not self.core_address.is_loopback:
            raise ValueError(
                f"DESK_CORE_ADDRESS ({self.core_address}) has to be an address on this machine (loopback), since"
                " DESK_PLAINTEXT leaves the connection unencrypted"
            )
        try:
            _ = self.core_tls
        except TlsSettingsMissing as missing:
            raise ValueError(
                f"{missing}. To call a service on this machine in plaintext, set DESK_PLAINTEXT=true or --plaintext"
            ) from None
        return self

    @property
    def core_tls(self) -> TlsFiles | None:
        """What the desk shows to the payment service; None in plaintext."""
        if self.plaintext:
            return None
        return tls_files(
            ("DESK_CORE_CERTIFICATE_FILE", self.core_certificate_file),
            ("DESK_CORE_KEY_FILE", self.core_key_file),
            ("DESK_CORE_CA_FILE", self.core_ca_file),
            use=Use.CLIENT,
        )

    @property
    def tls(self) -> TlsFiles | None:
        """What the desk shows to those who connect, and whom it takes; None in plaintext."""
        named = (
            ("DESK_TLS_CERTIFICATE_FILE", self.tls_certificate_file),
            ("DESK_TLS_KEY_FILE", self.tls_key_file),
            ("DESK_TLS_CLIENT_CA_FILE", self.tls_client_ca_file),
        )
        return tls_files(*named, use=Use.SERVER) if any(path for _, path in named) else None
