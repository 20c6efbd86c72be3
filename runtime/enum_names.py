"""What people read of an enum value, also where the other side is a newer release and tells of more."""

from google.protobuf.descriptor import EnumDescriptor


def short(prefix: str, enum: EnumDescriptor, value: int) -> str:
    """PAYMENT_STATUS_FAILED as FAILED; a number that this release does not know stays a number."""
    known = enum.values_by_number.get(value)
    return str(value) if known is None else known.name.removeprefix(prefix)
