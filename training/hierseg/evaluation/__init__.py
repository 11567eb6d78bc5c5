"""Evaluation: how well a prediction agrees with what is known, node by node of the label tree.

What is not known scores nothing: an unlabelled reference voxel is left out, and a voxel whose reference is an inner
node scores that node and its ancestors only.  ``metrics`` counts voxels, ``surface`` measures distances, ``case_scores``
has all numbers of a case, ``report`` those of many; ``statistics`` and ``significance`` say how sure they are; ``worst`` finds the
slices to look at, and ``html`` makes pages of all this.
"""

from hierseg.evaluation.metrics import Overlap, mean_score, node_overlaps, node_scores

__all__ = ["Overlap", "mean_score", "node_overlaps", "node_scores"]
