"""`python -m tests.conformance.forked`: the conformance run, with every program's process made by a fork.

All else is as `python -m conformance` has it. Half of the processor time of that run goes into modules that each of
some forty programs reads anew.
"""

import sys

from conformance.__main__ import main
from tests.forked_parts import start_forked

if __name__ == "__main__":
    sys.exit(main(start_forked))
