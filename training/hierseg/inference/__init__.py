"""Inference: from an image to one node of the label tree a voxel, on the image's own grid.

``sliding.py`` runs a network over a prepared image tile by tile, ``decode.py`` turns probabilities into nodes so that
the subclass always lies in the predicted superclass, ``restore.py`` does the same on the input's grid,
``predictor.py`` joins them behind one class.  Nothing here prints, reads files or knows about Slicer.
"""

from hierseg.inference.decode import Decoded, decode
from hierseg.inference.predictor import Prediction, Predictor, resolve_device
from hierseg.inference.restore import Restored, restore
from hierseg.inference.sliding import Cancelled, predict_prepared
from hierseg.inference.window import Probabilities

__all__ = [
    "Cancelled",
    "Decoded",
    "Prediction",
    "Predictor",
    "Probabilities",
    "Restored",
    "decode",
    "predict_prepared",
    "resolve_device",
    "restore",
]
