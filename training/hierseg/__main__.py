"""``python -m hierseg`` is the command ``hierseg``."""

import sys

from hierseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
