"""``python -m hierseg.worker`` is ``hierseg worker``."""

import sys

from hierseg.worker.server import serve

if __name__ == "__main__":
    sys.exit(serve())
