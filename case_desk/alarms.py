"""Everything for which this program calls a person. `docs/alarms.md` is made from this list."""

from runtime.alarms import Alarm

CERTIFICATE_EXPIRES = Alarm(
    "certificate_expires",
    "A certificate of the desk's expires soon. After that the payment service lets the desk in no more, or browsers and"
    " the proxy refuse the desk: the line names the file.",
    "Have a new certificate made, and put it and its key in place of the old ones: no restart is needed.",
)
TLS_FILES_UNUSABLE = Alarm(
    "tls_files_unusable",
    "The files of a certificate of the desk's have changed, and cannot be used as they are. What was read before stays"
    " in force.",
    "Put right what the line names: `case-desk serve --check-config` tries the same files. Replace the certificate and"
    " its key together; they are read within seconds.",
)
SERVICE_REFUSES_DESK = Alarm(
    "service_refuses_desk",
    "The payment service does not let the desk do what a person has asked for.",
    "See that PAYMENTS_CALLERS_FILE of the service lists the SPIFFE URI of the desk's certificate with the party DESK,"
    " and that the certificate has not expired. The line holds the service's own words.",
)
PROGRAM_FAULT = Alarm(
    "program_fault",
    "A page failed by a fault of the desk.",
    "Report the traceback in this line.",
)

ALARMS: tuple[Alarm, ...] = (CERTIFICATE_EXPIRES, TLS_FILES_UNUSABLE, SERVICE_REFUSES_DESK, PROGRAM_FAULT)
