"""What the user sees: Qt only, one file a section of the panel; needs the Slicer application.

``panel`` puts the sections together and connects them; ``parameters`` is the state that is saved with the scene;
``qprocess_transport`` lets the event loop carry a worker's bytes.  Nothing here computes or touches voxels: that is
``scene``'s and ``compute``'s work.  Widgets are used by their properties (``button.enabled = False``) and signals are
connected by ``widget.signal.connect(callable)``.
"""
