"""How calls come in: in plaintext, or by whoever the list of callers knows, with files that the settings name."""

from datetime import UTC, datetime

from payment_service.alarms import TLS_FILES_UNUSABLE
from payment_service.config import PaymentSettings
from payment_service.production import check_door_for_production
from payment_service.rpc.identity import PLAINTEXT, Door, load_callers
from runtime.tls import FollowedFiles, TlsSettingsMissing, read_tls


def load_door(settings: PaymentSettings) -> Door:
    """How calls come in, from the files that the settings name; StartRefused where one cannot be used."""
    if settings.plaintext:
        return PLAINTEXT
    files, callers = settings.server_tls, settings.callers_file
    if files is None or callers is None:
        # The settings refuse this as well. A door never opens because something lacks.
        raise TlsSettingsMissing(["PAYMENTS_CALLERS_FILE"])
    content, listed = read_tls(files, datetime.now(UTC)), load_callers(callers)
    check_door_for_production(settings, content.authority, listed)
    return Door(FollowedFiles(files, content, TLS_FILES_UNUSABLE), listed)
