"""Training methods, one file each: what a batch is turned into losses by.

A method is told the label tree, the configuration and (for knowledge keeping) the model that training started from;
``step(model, batch)`` returns its loss terms by name, already weighted; the engine adds them up.
"""

from hierseg.methods.base import Geometry, Method, build_method

__all__ = ["Geometry", "Method", "build_method"]
