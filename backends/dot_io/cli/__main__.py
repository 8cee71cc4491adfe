"""``python -m dot_io.cli`` is ``dot-proto``."""

import sys

from . import main

sys.exit(main())
