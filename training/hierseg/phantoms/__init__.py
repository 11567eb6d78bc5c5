"""Synthetic data sets with known truth: what to try the software and its methods on when no patient data are at hand.

Each kind of phantom is one module (``acdc``, ``brats``, ``brain``, ``hyperspectral``) with one class that draws a
subject: label maps of a label tree's leaves and the images that a scanner might have made of them.  Everything is drawn
from a seed, so the same command gives the same bytes on every run.  Truth is exact and difficulty is a knob: the
subclasses of one superclass overlap in intensity, so that a model has to learn where things lie and what shape they have.

``shapes`` has the geometry, ``contrast`` turns label maps into images, ``chest`` those around a heart, ``strokes`` makes
sparse annotations of dense ones, ``writing`` makes dataset folders and the published layouts, ``content`` tells whether two such folders say the same.
"""

from hierseg.phantoms.content import content_hash

__all__ = ["content_hash"]
