"""Efficient subclass segmentation (paper A): L_c + L_f + L_p, with HierarchicalMix for the coarse half of a batch."""

from __future__ import annotations

from hierseg.methods.base import Method


class EfficientSubclassSegmentation(Method):
    """The two supervised terms, and the loss on mixed images with pseudo labels."""
