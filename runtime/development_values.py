"""What is made for development only, and how it is told from what a real installation has.

Everybody who reads this project, or has the folder of somebody's development machine, knows these values. Whoever makes
one marks it as said here; what may not start with one is for the programs to say.
"""

import json
from pathlib import Path
from typing import Final

SECRET_PREFIX: Final = "development-"
"""How every secret begins that exists in the simulator only."""
AUTHORITY_NAME: Final = "M-Pesa payment service, development"
"""The common name of the authority that signs certificates for one machine."""
TRUST_DOMAIN: Final = "spiffe://development.local"
"""Where the certificates of that authority say that a caller belongs."""
MARK: Final = {"made_for": "development"}
"""What stands beside the keys in a file that was made for development."""


def is_marked(path: Path) -> bool:
    """Whether a file of keys, which can be read as such, was made for development."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return all(document.get(name) == value for name, value in MARK.items())
