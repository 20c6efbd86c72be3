"""Every refusal Daraja is known to give, as data: HTTP status, error code, text, and the kind of envelope.

Names are for scripts and tests. "Daraja: M-Pesa Express Simulate" documents the first kind; the others are recorded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

Envelope = Literal["daraja", "apigee", "html", "text", "soap", "empty"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way to say no. For Apigee faults the code is the fault's errorcode."""

    status: int
    code: str
    text: str
    envelope: Envelope = "daraja"


_BAD_REQUEST: Final = "Bad Request - "

ERRORS: Final[dict[str, Refusal]] = {
    "invalid_request": Refusal(400, "400.002.02", _BAD_REQUEST + "Invalid Request"),
    "bad_payload": Refusal(400, "400.002.05", "Invalid Request Payload"),
    "bad_payload_003": Refusal(400, "400.003.02", "Bad Request"),
    "invalid_access_token": Refusal(404, "404.001.03", "Invalid Access Token"),
    "invalid_access_token_401_002": Refusal(401, "401.002.01", "Error Occurred - Invalid Access Token"),
    "invalid_access_token_401_003": Refusal(401, "401.003.01", "Error Occurred - Invalid Access Token"),
    "invalid_access_token_400_003": Refusal(400, "400.003.01", "Invalid Access Token"),
    "invalid_access_token_401_001": Refusal(401, "401.001", "Invalid Access Token"),
    "no_apiproduct_match": Refusal(
        401,
        "401.002.01",
        "Error Occurred - Invalid Access Token - Invalid API call as no apiproduct match found",
    ),
    "resource_not_found": Refusal(404, "404.001.01", "Resource not found"),
    "resource_not_found_002": Refusal(404, "404.002.01", "Resource not found"),
    "resource_not_found_003": Refusal(404, "404.003.01", "Resource not found"),
    "invalid_authentication_header": Refusal(404, "404.001.04", "Invalid Authentication Header"),
    "method_not_allowed": Refusal(405, "405.001", "Method Not Allowed"),
    "merchant_does_not_exist": Refusal(500, "500.001.1001", "Merchant does not exist"),
    "wrong_credentials": Refusal(500, "500.001.1001", "Wrong credentials"),
    "wrong_credentials_merchant_validate": Refusal(500, "500.001.1001", "[MerchantValidate] - Wrong credentials"),
    "subscriber_locked": Refusal(
        500, "500.001.1001", "Unable to lock subscriber, a transaction is already in process for the current subscriber"
    ),
    "no_iccid": Refusal(500, "500.001.1001", "[CBS - ] No ICCID found"),
    "being_processed": Refusal(500, "500.001.1001", "The transaction is being processed"),
    "does_not_exist": Refusal(500, "500.001.1001", "The transaction does not Exist"),
    "empty_text": Refusal(500, "500.001.1001", ""),
    "unknown_text": Refusal(500, "500.001.1001", "A text that is on no list"),
    "duplicate_originator": Refusal(500, "500.002.1001", "Duplicate OriginatorConversationID."),
    "system_internal_error": Refusal(500, "500.002.1001", "System internal error."),
    "maintenance": Refusal(
        500, "500.002.1001", "Service is currently under maintenance. Please try again in a little while"
    ),
    "system_busy": Refusal(500, "500.003.02", "System is busy. Please try again in few minutes."),
    "spike_arrest": Refusal(500, "500.003.02", "Error Occurred: Spike Arrest Violation"),
    "quota": Refusal(500, "500.003.03", "Error Occurred: Quota Violation"),
    "internal_error": Refusal(500, "500.003.1001", "Internal Server Error"),
    "apigee_429": Refusal(
        429,
        "policies.ratelimit.SpikeArrestViolation",
        "Spike arrest violation. Allowed rate : MessageRate{capacity=5, period=PT1M}",
        "apigee",
    ),
    "incapsula_403": Refusal(403, "", "Request unsuccessful. Incapsula incident ID: 445000160293817462-88", "html"),
    "incapsula_503": Refusal(503, "", "Request unsuccessful. Incapsula incident ID: 445000160293817462-89", "text"),
    "unreachable_503": Refusal(503, "", "Service is currently unreachable", "text"),
    "bad_gateway_502": Refusal(502, "", "Bad Gateway", "html"),
    "gateway_timeout_504": Refusal(504, "", "Gateway Timeout", "html"),
    "empty_500": Refusal(500, "", "", "empty"),
    "soap_fault_500": Refusal(500, "soap:Server", "Execution of ServiceCallout failed", "soap"),
    "empty_200": Refusal(200, "", "", "empty"),
    "empty_envelope_200": Refusal(200, "500.001.1001", ""),
    "unreadable_200": Refusal(200, "", "<html><body>Welcome</body></html>", "text"),
    "pull_invalid_shortcode": Refusal(400, "400.001", "Invalid ShortCode"),
    "pull_nothing_found": Refusal(
        500, "500", "Failed to retrieve transactions. The short code does not have any available transactions."
    ),
    "invalid_authentication": Refusal(400, "400.008.01", "Invalid Authentication passed"),
    "invalid_grant": Refusal(400, "400.008.02", "Invalid grant type passed"),
}


def invalid(field: str) -> Refusal:
    """The refusal for one wrong field of a request."""
    return Refusal(400, "400.002.02", f"{_BAD_REQUEST}Invalid {field}")


def render(refusal: Refusal, request_id: str) -> tuple[int, str, bytes]:
    """Status, content type and body of a refusal."""
    if refusal.envelope == "html":
        page = f"<html><head><title>Error</title></head><body>{refusal.text}</body></html>"
        return refusal.status, "text/html", page.encode()
    if refusal.envelope == "text":
        return refusal.status, "text/html", refusal.text.encode()
    if refusal.envelope == "empty":
        return refusal.status, "application/json", b""
    body: dict[str, Any]
    if refusal.envelope == "apigee":
        body = {"fault": {"faultstring": refusal.text, "detail": {"errorcode": refusal.code}}}
    elif refusal.envelope == "soap":
        body = {"Envelope": {"Body": {"Fault": {"faultcode": refusal.code, "faultstring": refusal.text}}}}
    else:
        body = {"requestId": request_id, "errorCode": refusal.code, "errorMessage": refusal.text}
    return refusal.status, "application/json", json.dumps(body).encode()
