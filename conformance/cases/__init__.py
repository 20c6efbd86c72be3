"""All cases, in the order of the table: the essential ones, then the others by what they are about."""

from conformance.cases import answers, asking, attempts, callbacks, essentials, late, outages, streams
from conformance.running import DECLARED

_ORDER = [module.__name__ for module in (essentials, answers, callbacks, asking, late, attempts, streams, outages)]

CASES = sorted(DECLARED, key=lambda one: _ORDER.index(one.play.__module__))
