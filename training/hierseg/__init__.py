"""hierseg: learning to segment with a label tree, from superclass labels and few subclass labels.

Importing the package itself costs nothing: no torch, no MONAI.  ``labeltree``, ``dataset``, ``bundle``,
``resources``, ``errors``, ``atomic`` and ``worker.protocol`` need the standard library and numpy alone.
"""

__version__ = "0.1.0"
