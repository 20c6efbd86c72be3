"""All cases, in the order of the table: the essential ones, then the others by what they are about."""

from conformance.cases import (
    answers,
    asking,
    attempts,
    callbacks,
    casework,
    essentials,
    forged,
    late,
    outages,
    refunds,
    second_person,
    streams,
    taken_back,
    trips,
)
from conformance.running import DECLARED

_GROUPS = (
    essentials,
    answers,
    callbacks,
    forged,
    asking,
    late,
    attempts,
    casework,
    second_person,
    refunds,
    trips,
    taken_back,
    streams,
    outages,
)
_ORDER = [module.__name__ for module in _GROUPS]

CASES = sorted(DECLARED, key=lambda one: _ORDER.index(one.play.__module__))
