"""The Slicer half of HierSubclassSeg: ``scene`` (MRML without Qt), ``compute`` (processes), ``gui`` (Qt only).

Nothing here imports torch or MONAI; of ``hierseg`` only the shared vocabulary (``labeltree``, ``dataset``,
``bundle``, ``resources``, ``errors``, ``atomic``, ``worker.protocol``) is used.  In a checkout that package lies in
``training/``, which is put on the path here; an installed extension has it beside the module's script.
"""

import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2] / "training"
if (_CHECKOUT / "hierseg" / "__init__.py").is_file() and str(_CHECKOUT) not in sys.path:
    # First, so that module and worker never run different versions of the protocol.
    sys.path.insert(0, str(_CHECKOUT))
