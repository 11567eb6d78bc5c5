"""The scene: label trees as segmentations, without Qt.

What belongs here works on MRML nodes and runs both in the Slicer application and with the ``slicer-core`` wheel:
predictions and annotations as segmentation nodes (``prediction``, ``annotation``), what their segments carry
(``tags``, ``tree_store``, ``terminology``, ``colors``), voxels and world space (``labelmaps``, ``geometry``), the way
to a dataset folder and back (``export``, ``load_case``), files (``storage``), and painting (``layers``, ``painting``,
``refine``, ``undo``, ``reconcile``).  ``session`` wires a scene where there is no application.
"""
