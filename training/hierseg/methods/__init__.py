"""Training methods, one file each: what a batch is turned into losses by.

A method is told the label tree, the configuration and (for knowledge keeping) the model that training started from;
``step(model, batch, progress)`` returns its loss terms by name, already weighted; the engine adds them up.
"""

from hierseg.methods.base import Method, build_method

__all__ = ["Method", "build_method"]
