"""Everything for which this program calls a person. `docs/alarms.md` is made from this list."""

from runtime.alarms import Alarm

SPOOL_FULL = Alarm(
    "spool_full",
    "The spool has no room for another callback, so callbacks are answered 503 while the service is away.",
    "Bring the payment service back, empty rejected/ and damaged/ in the spool's folder, or raise"
    " GATEWAY_SPOOL_MAX_BYTES.",
)
SPOOL_DISK_FAILS = Alarm(
    "spool_disk_fails",
    "The volume of the spool takes no writes, does not answer in time, or gives nothing back.",
    "Do what `check` in this line says. The spool tries again by itself, and the alarm ends when it works.",
)
SPOOL_UNREADABLE = Alarm(
    "spool_unreadable",
    "What waits in the spool cannot be read or removed, so it is not delivered.",
    "Look after the volume of the spool. It is tried again by itself, and the alarm ends when it works.",
)
SPOOL_DAMAGED = Alarm(
    "spool_damaged",
    "Some bytes of a file of the spool could not be read. The intact callbacks in it are delivered; the file is kept in"
    " damaged/.",
    "After a crash or a power cut, a torn end is a callback that was never answered 200, and the file can go. Otherwise"
    " suspect the disk, or keys that are not those it was sealed with: put these in place, start the gateway again, and"
    " move the file back.",
)
CALLBACK_REJECTED = Alarm(
    "callback_rejected",
    "The service refused the token of a callback that the gateway had kept. It is in rejected/, and stays there.",
    "See that both programs use the same callback keys, then move the file back into the spool's folder.",
)
CALLBACK_KEYS_DIFFER = Alarm(
    "callback_keys_differ",
    "The gateway and the service have different callback keys, so true callbacks are refused.",
    "Give both programs the same file of callback keys: each reads it within seconds.",
)
KEY_FILES_UNUSABLE = Alarm(
    "key_files_unusable",
    "A file of the gateway's keys has changed, and cannot be used as it is. The keys from before stay in use.",
    "Put right what the line names: `callback-gateway serve --check-config` tries the same files. They are read again"
    " within seconds, and no restart is needed.",
)
CALLBACK_SOURCE_UNLISTED = Alarm(
    "callback_source_unlisted",
    "A callback with a true token came from an address that Safaricom is not known to call from. It was taken.",
    "Somebody may have learned its URL: see whether `payment-service explain` finds the payment backed. If Safaricom"
    " calls from there now, add the address to GATEWAY_CALLBACK_SOURCES. If it is your own proxy's, set"
    " GATEWAY_PROXY_ADDRESSES. It is told once a minute at most; `callbacks` counts those since the last time.",
)
CERTIFICATE_EXPIRES = Alarm(
    "certificate_expires",
    "The gateway's certificate expires soon. After that the payment service lets the gateway in no more.",
    "Have a new certificate made, and put it and its key in place of the old ones: no restart is needed.",
)
TLS_FILES_UNUSABLE = Alarm(
    "tls_files_unusable",
    "The files of the gateway's certificate have changed, and cannot be used as they are. What was read before stays in"
    " force.",
    "Put right what the line names: `callback-gateway serve --check-config` tries the same files. Replace the"
    " certificate and its key together; they are read within seconds.",
)
SERVICE_REFUSES_GATEWAY = Alarm(
    "service_refuses_gateway",
    "The payment service does not let this gateway hand in callbacks. These callbacks were answered 503.",
    "See that PAYMENTS_CALLERS_FILE of the service lists the SPIFFE URI of the gateway's certificate with the party"
    " GATEWAY, and that the certificate has not expired. The line holds the service's own words.",
)
SERVICE_ANSWERS_WRONGLY = Alarm(
    "service_answers_wrongly",
    "The payment service answered a call about callbacks as it never should. These callbacks were answered 503.",
    "See that GATEWAY_CORE_ADDRESS is the payment service, and that its release is not older than the gateway's. Read"
    " the service's log of this moment.",
)
PROGRAM_FAULT = Alarm(
    "program_fault",
    "A request failed by a fault of the gateway.",
    "Report the traceback in this line.",
)

ALARMS: tuple[Alarm, ...] = (
    SPOOL_FULL,
    SPOOL_DISK_FAILS,
    SPOOL_UNREADABLE,
    SPOOL_DAMAGED,
    CALLBACK_REJECTED,
    CALLBACK_KEYS_DIFFER,
    KEY_FILES_UNUSABLE,
    CALLBACK_SOURCE_UNLISTED,
    CERTIFICATE_EXPIRES,
    TLS_FILES_UNUSABLE,
    SERVICE_REFUSES_GATEWAY,
    SERVICE_ANSWERS_WRONGLY,
    PROGRAM_FAULT,
)
