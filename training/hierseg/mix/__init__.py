"""HierarchicalMix: subclass supervision for cases of which only superclasses are known (paper A, section 2.3).

``boxes.py`` mixes the superclass regions of a fine-labelled case into a coarse one, on the CPU, while data is
loaded; ``turning.py`` draws the flips and quarter turns under which a prediction must stay the same; ``pseudo.py``
makes pseudo labels from that agreement; ``hierarchical.py`` joins them into one loss.

The published code of the paper trains nothing with this loss: its forward pass lies in a block without gradients.
Here, as in the paper's text, the gradient flows through the prediction of the mixed image, and none through the
pseudo label.
"""

from hierseg.mix.boxes import Box, MixedCase, mix_case, mixed_patch, superclass_boxes
from hierseg.mix.hierarchical import MODES, HierarchicalMix, MixLoss
from hierseg.mix.pseudo import pseudo_label
from hierseg.mix.turning import Turn, draw_turn

__all__ = [
    "MODES",
    "Box",
    "HierarchicalMix",
    "MixLoss",
    "MixedCase",
    "Turn",
    "draw_turn",
    "mix_case",
    "mixed_patch",
    "pseudo_label",
    "superclass_boxes",
]
