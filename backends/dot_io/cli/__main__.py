"""``python -m dot_io.cli`` is ``dot-proto``."""

import sys

from . import process

sys.exit(process())
