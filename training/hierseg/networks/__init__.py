"""Networks: ESS heads (prior concatenation, separate normalization) on interchangeable trunks.

A *trunk* turns an image into the raw features of its decoder's last convolution (``trunks.py``); the *heads* turn
those into superclass logits and leaf logits along a label tree (``heads.py``).  ``segmenter.py`` joins the two,
``transfer.py`` moves weights from one label tree to another, ``weights.py`` reads and writes them.
"""

from hierseg.networks.segmenter import HierarchicalOutput, HierarchicalSegmenter

__all__ = ["HierarchicalOutput", "HierarchicalSegmenter"]
