"""The groups of a training run's settings: one frozen record each, written with a dot on the command line.

Only the standard library is imported, so that the command line can name the methods without loading any network.
"""

from __future__ import annotations

from dataclasses import dataclass

METHODS = ("ess", "two_head", "unet", "nl", "cps", "uamt", "regions", "salt")
"""Training methods; ``hierseg/methods`` has a file for each."""

HEADS = ("two_heads", "leaf", "path_softmax", "regions")
"""Output layers of the network (``hierseg/networks``)."""

METHOD_HEADS = {"unet": "leaf", "nl": "leaf", "regions": "regions", "salt": "path_softmax"}
"""The output layers that a method has by itself; ``two_heads`` for the others."""


HOLD_OUT_KINDS = ("leaf", "top")
"""Which classes are hidden in turn: each leaf, or each top-level node with all that is below it."""


@dataclass(frozen=True)
class Losses:
    """Weights of the loss terms; 0 switches a term off.  Any method takes any of them, where nothing else is said.

    Attributes:
        superclass: cross-entropy and Dice of the superclass output on every labelled voxel (L_c of paper A).
        partial: cross-entropy and Dice of the leaf output on leaf-labelled voxels (L_f).
        fine_patches_only: ``partial`` looks at fine patches alone, as paper A's L_f does; else also at the leaves (as the
            background) that coarse patches show.
        cross_entropy: share of the cross-entropy in ``superclass`` and ``partial``.
        dice: share of the Dice loss in them.
        mix: the loss on mixed images (L_p); method ``ess`` only.
        negative: negative learning; method ``nl`` only.
        balanced_marginal: ``negative`` in the form of the method's published code.
        marginal: −log of the probability of the known node, its leaves summed, on every labelled voxel
            (:class:`hierseg.losses.MarginalCrossEntropy`).
        shared_ignore: method ``regions``: a voxel of which only an inner node is known is ignored by all regions, as
            nnU-Net's mask must; else by those below its node alone.
        keep: distance to the start model's probabilities where no leaf is labelled (knowledge keeping);
            needs ``--init``.
        split: −log P(child | parent), every parent counting the same: for few strokes of new subclasses beside many
            voxels that were taken over (:class:`hierseg.losses.SplitCrossEntropy`).
        wasserstein: how far probability has to travel along the tree, on every labelled voxel
            (:class:`hierseg.losses.TreeWasserstein`).
        tree_cross_entropy: cross-entropy of the known node and its ancestors, on every labelled voxel
            (:class:`hierseg.losses.TreeCrossEntropy`).
        level_weights: one weight for each depth in ``tree_cross_entropy``, the top level first; None for the tree's
            edge weights.
        triplet: features of a subclass nearer to its siblings' than to another superclass's
            (:class:`hierseg.losses.TreeTriplet`); the weight rises to this one over the training.
        node_dice: Dice of every node among the voxels of its parent (:class:`hierseg.losses.NodeDice`).
    """

    superclass: float = 1.0
    partial: float = 1.0
    fine_patches_only: bool = False
    cross_entropy: float = 0.5
    dice: float = 0.5
    mix: float = 1.0
    negative: float = 1.0
    balanced_marginal: bool = False
    shared_ignore: bool = False
    marginal: float = 0.0
    keep: float = 0.0
    split: float = 0.0
    wasserstein: float = 0.0
    tree_cross_entropy: float = 0.0
    level_weights: tuple[float, ...] | None = None
    triplet: float = 0.0
    node_dice: float = 0.0


@dataclass(frozen=True)
class Mix:
    """HierarchicalMix (paper A, section 2.3).

    Attributes:
        mode: ``full``, ``mixup`` (mixed images, no pseudo labels), ``pseudo`` (pseudo labels, no mixing) or ``off``.
        tau_start: confidence that a pseudo label needs at the first iteration.
        tau_end: the same at the last iteration; linear in between.
        alpha_low: smallest weight of the leaf-labelled image.
        alpha_high: largest weight.
        ramp: the sigmoid steps of the published code on the weight of the mix loss (the paper has none).
    """

    mode: str = "full"
    tau_start: float = 1.0
    tau_end: float = 0.4
    alpha_low: float = 0.5
    alpha_high: float = 1.0
    ramp: bool = False


@dataclass(frozen=True)
class Consistency:
    """What ``cps`` and ``uamt`` ask of two networks on the coarse patches.

    Attributes:
        weight: largest weight of the term.
        ramp_up: share of the iterations over which the weight rises to it, as exp(−5 (1 − t)²) with t from 0 to 1 in
            200 steps.
        decay: of the teacher's weights (``uamt``).
        passes: of the teacher, to see how sure it is (``uamt``).
        noise: standard deviation of the noise on the teacher's images, cut off at twice this (``uamt``); images lie
            around 0..1.
    """

    weight: float = 0.1
    ramp_up: float = 0.75
    decay: float = 0.99
    passes: int = 8
    noise: float = 0.1


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a patch.  Probabilities are per patch.

    Attributes:
        flip_axes: array axes that may be mirrored, e.g. ``[0]``; mirroring left to right swaps opposite nodes, and
            where a tree tells sides apart no other kind of relabeling happens.
        flip_probability: of mirroring, for each axis.
        affine_probability: of turning and scaling.
        rotation: largest angle in degrees, each axis.
        scale: largest relative change of size.
        intensity_probability: of each of the intensity changes below.
        brightness: largest relative scaling and largest shift of intensities (which lie around 0..1).
        contrast: gamma between 1 − contrast and 1 + 2·contrast.
        noise: standard deviation of Gaussian noise.
        blur: largest standard deviation of Gaussian smoothing, in voxels.
    """

    flip_axes: tuple[int, ...] = (0,)
    flip_probability: float = 0.5
    affine_probability: float = 0.5
    rotation: float = 12.0
    scale: float = 0.12
    intensity_probability: float = 0.3
    brightness: float = 0.15
    contrast: float = 0.25
    noise: float = 0.03
    blur: float = 0.8


@dataclass(frozen=True)
class Validation:
    """Measuring on held-out cases.

    Attributes:
        fraction: share of the training cases held out, by a hash of each case's group, if the dataset has no
            cases in "validation"; 0 for none.
        least_groups: with fewer groups than this all of them are trained on, and nothing is measured.
        interval: iterations between two measurements; 0 for the end only.
        slices: where no case can be held out, the share of annotated slices that is; 0 for none.
        thresholds: ``always`` or ``never`` choose for each node the probability below which it is not accepted;
            ``auto`` does for label trees without a background.
        true_positive_rate: share of a node's validation voxels that its threshold lets pass.
        one_piece: ``auto`` finds the nodes that are one piece on the validation cases: what the model predicts apart from the
            largest piece goes to what surrounds it; ``never`` leaves every piece.
    """

    fraction: float = 0.2
    least_groups: int = 2
    interval: int = 200
    slices: float = 0.0
    thresholds: str = "auto"
    true_positive_rate: float = 0.95
    one_piece: str = "never"
