"""The Slicer half of HierSubclassSeg: ``scene`` (MRML without Qt), ``compute`` (processes), ``gui`` (Qt only).

Nothing here imports torch or MONAI; of ``hierseg`` only the shared vocabulary (``labeltree``, ``dataset``,
``bundle``, ``resources``, ``errors``, ``atomic``, ``worker.protocol``) is used.
"""
