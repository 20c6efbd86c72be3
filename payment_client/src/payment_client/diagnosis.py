"""Why there is no connection, in a sentence.

gRPC says "failed to connect to all addresses" and the text of whatever library failed last. So where a call ends
without a word of the service, the connection is tried once more by the standard library, step by step: the first step
that fails is the cause. It blocks for some seconds at most, and nothing that could be a request is sent.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import urllib.request
from dataclasses import dataclass

from payment_client.errors import CannotConnect
from payment_client.tls import TlsFiles

STEP_TIMEOUT_SECONDS = 3.0

_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH, _NOT_YET_VALID, _EXPIRED = 62, 64, 9, 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client connects to, and how."""

    target: str
    tls: TlsFiles | None
    proxy: bool

    @property
    def place(self) -> tuple[str, int] | None:
        """Host and port; None for a target that has no such thing."""
        address = self.target.removeprefix("dns:").rpartition("/")[2]
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal() or self.target.startswith("unix:"):
            return None
        return host.strip("[]"), int(port)


def why_not_connected(endpoint: Endpoint) -> CannotConnect | None:
    """What is wrong with the connection; None where it can be made, or no cause is found."""
    if endpoint.place is None:
        return None
    host, port = endpoint.place
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if endpoint.proxy and (proxy := _proxy_in_between(host)):
        variable, address = proxy
        text = (
            f"The variable {variable} sends the connection to {where} through the proxy {address}, which does not carry"
            f" it. Name {host} in the variable no_proxy, or make the client without proxy=True."
        )
        return CannotConnect(text, lasting=True)
    try:
        connection = socket.create_connection((host, port), STEP_TIMEOUT_SECONDS)
    except socket.gaierror:
        return CannotConnect(f"The name {host} is not known to this machine. Check the address {where}.", lasting=False)
    except TimeoutError:
        return CannotConnect(f"{where} does not answer. Check the address, and any firewall on the way.", lasting=False)
    except OSError as error:
        text = f"Nothing serves at {where} ({error.strerror or error}). Start the service, or check the address."
        return CannotConnect(text, lasting=False)
    with connection:
        connection.settimeout(STEP_TIMEOUT_SECONDS)
        if endpoint.tls is None:
            return _why_not_in_plaintext(connection, where)
        return _why_not_with_tls(connection, host, where, endpoint.tls)


def _proxy_in_between(host: str) -> tuple[str, str] | None:
    """The variable that names a proxy for this host, and the proxy, as gRPC chooses it."""
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(host):
        return None
    for scheme in ("grpc", "https", "http"):
        if address := proxies.get(scheme):
            # A proxy's address may carry a password.
            return f"{scheme}_proxy", address.rpartition("@")[2].removeprefix("http://")
    return None


def _why_not_in_plaintext(connection: socket.socket, where: str) -> CannotConnect | None:
    """A service that answers a TLS greeting wants TLS."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    anybody.set_alpn_protocols(["h2"])
    try:
        with anybody.wrap_socket(connection):
            pass
    except (ssl.SSLError, OSError):
        return None
    text = (
        f"The service at {where} speaks TLS, and this client was made without it. Give it"
        " tls=TlsFiles(authority=…, certificate=…, key=…)."
    )
    return CannotConnect(text, lasting=True)


def _why_not_with_tls(connection: socket.socket, host: str, where: str, tls: TlsFiles) -> CannotConnect | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(tls.authority)
        context.load_cert_chain(tls.certificate, tls.key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"The key in tls.key ({tls.key}) does not belong to the certificate in tls.certificate."
        else:
            text = f"The files of tls cannot be used: {error.reason}. Expected PEM files."
        return CannotConnect(text, lasting=True)
    try:
        with context.wrap_socket(connection, server_hostname=host) as secured:
            # Whether our certificate is accepted shows in the first thing that the service says, if it says anything.
            if secured.recv(1):
                return None
    except ConnectionResetError:
        pass
    except ssl.SSLCertVerificationError as error:
        return CannotConnect(_about_its_certificate(error, host, where, tls), lasting=True)
    except ssl.SSLError as error:
        return _about_the_handshake(error, where, tls)
    except OSError:
        return None
    text = (
        f"The service at {where} closes the connection when it sees the certificate in tls.certificate"
        f" ({tls.certificate}). It has expired, or another authority has signed it than the service trusts: ask its"
        " operator for one."
    )
    return CannotConnect(text, lasting=False)


def _about_its_certificate(error: ssl.SSLCertVerificationError, host: str, where: str, tls: TlsFiles) -> str:
    if error.verify_code in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
        kind = "address" if _is_address(host) else "name"
        return f"The certificate of the service at {where} is not for the {kind} {host}. Use one that it names."
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        return (
            f"The certificate of the service at {where} is not valid today: {error.verify_message}. Its operator has to"
            " renew it, or the clock of this machine is wrong."
        )
    return (
        f"The certificate of the service at {where} is not signed by the authority in tls.authority ({tls.authority}):"
        f" {error.verify_message}. Ask the operator of the service for its authority's file."
    )


def _about_the_handshake(error: ssl.SSLError, where: str, tls: TlsFiles) -> CannotConnect | None:
    reason = error.reason or ""
    if "ALERT" in reason:
        said = reason.partition("ALERT_")[2].lower().replace("_", " ")
        text = (
            f"The service at {where} does not accept the certificate in tls.certificate ({tls.certificate}): {said}."
            " Ask its operator for one that its authority has signed."
        )
        return CannotConnect(text, lasting=True)
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"):
        text = f"The service at {where} does not speak TLS, and this client was made with tls=…. Check the port."
        return CannotConnect(text, lasting=True)
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
