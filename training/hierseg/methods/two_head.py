"""Two heads without HierarchicalMix: the baseline "Mod" of paper A, L_c + L_f.

With ``prior_concatenation`` or ``separate_normalization`` switched on in the configuration it is the paper's
ablation "PC", "SN" or "PC + SN"; switch both off for the baseline itself.
"""

from __future__ import annotations

from hierseg.methods.base import Method


class TwoHead(Method):
    """L_c on every labelled voxel and L_f on the leaf-labelled ones."""
