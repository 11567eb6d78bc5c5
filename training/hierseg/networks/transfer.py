"""Moving weights from one label tree to another: this is how a superclass gets subclasses.

The trunk does not know the tree and is copied.  The heads' rows belong to nodes and are matched by the node's path:

* a leaf of both trees keeps its row;
* a leaf below what was a *leaf* before (a split) starts from that leaf's row, with log(number of leaves that share
  it) subtracted from the bias: together they get exactly the probability that the old leaf had, in equal parts, and
  no other node's probability changes;
* a leaf added beside existing subclasses starts from the mean of its parent's rows;
* a leaf that was an *inner* node before (its subclasses are merged) gets the mean of their rows, with log(their
  number) added to the bias;
* a top-level node that the source does not have keeps its fresh initialization.

With separate normalization a top-level node's branch goes with it.  A top-level leaf has one logit for both outputs
there; when it is split, each new leaf-head row is that logit's row, and its weight for the concatenated superclass
logit is 0, because the logit is in the row already.
A superclass that became a top-level leaf keeps its superclass logit, which is then the one for both outputs.

The baselines' heads (``single_heads.py``) have one row a leaf, or one a node.  A node that is new among known siblings
starts from their mean row; new children of what was a leaf share it equally (``path_softmax``), or start from the row
of the node above them (``regions``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree, Node
from hierseg.networks.heads import SeparateHeads, SharedHeads
from hierseg.networks.segmenter import HierarchicalSegmenter
from hierseg.networks.single_heads import LeafHead, RegionsHead, SingleHead

State = Mapping[str, torch.Tensor]


@dataclass
class TransferReport:
    """What a transfer did; nodes are given by their paths.

    Attributes:
        copied: number of tensors copied into the trunk.
        matched: leaves and top-level nodes that keep their rows.
        started_from_parent: path of a new leaf → path of the node whose rows it starts from.
        merged: leaves that were inner nodes of the source.
        new: leaves and top-level nodes that start fresh.
        dropped: leaves of the source that nothing was taken from.
    """

    copied: int = 0
    matched: list[str] = field(default_factory=list)
    started_from_parent: dict[str, str] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """The report in plain sentences, one for each thing that happened."""
        said = [f"The trunk was copied ({self.copied} tensors)."]
        if self.matched:
            said.append(f"{len(self.matched)} nodes keep their output weights: {', '.join(self.matched)}.")
        by_parent: dict[str, list[str]] = {}
        for path, parent in self.started_from_parent.items():
            by_parent.setdefault(parent, []).append(path)
        said += [f"New subclasses start from '{parent}': {', '.join(paths)}." for parent, paths in by_parent.items()]
        if self.merged:
            said.append(f"Their former subclasses were merged into: {', '.join(self.merged)}.")
        if self.new:
            said.append(f"Not in the source, starting fresh: {', '.join(self.new)}.")
        if self.dropped:
            said.append(f"No longer in the tree: {', '.join(self.dropped)}.")
        return said


def initialize_from(model: HierarchicalSegmenter, source_state: State, source_tree: LabelTree) -> TransferReport:
    """Initialize a model in place with the weights of another one, whose label tree may differ.

    Args:
        model: the model to initialize; ``model.tree`` is the new tree.
        source_state: the other model's state dictionary, as :func:`hierseg.networks.weights.load_weights` gives it.
        source_tree: the other model's tree.

    Returns:
        What was copied, matched, started from a parent, and left fresh.

    Raises:
        ConfigError: the trunks, the numbers of input channels or the kinds of heads differ.
    """
    _check_source(model, source_state, source_tree)
    report = TransferReport(copied=_copy_trunk(model, source_state))
    plan = _plan(model.tree, source_tree, report)
    heads = model.heads
    with torch.no_grad():
        if isinstance(heads, SeparateHeads):
            _separate(heads, model.tree, source_state, source_tree, plan)
        elif isinstance(heads, SingleHead):
            _single(heads, model.tree, source_state, source_tree, plan)
        else:
            assert isinstance(heads, SharedHeads)
            _shared(heads, model.tree, source_state, source_tree, plan)
    return report


@dataclass(frozen=True)
class _Origin:
    """A leaf's row: the mean of these source leaves' rows, plus a shift of the bias."""

    leaves: tuple[str, ...]
    shift: float


def _plan(tree: LabelTree, source: LabelTree, report: TransferReport) -> dict[str, _Origin]:
    """Where the row of every leaf that is not fresh comes from, by leaf name."""
    plan: dict[str, _Origin] = {}
    for leaf in tree.leaves:
        lineage = [leaf, *tree.ancestors(leaf)]
        known = next((node for node in lineage if _find(source, node.path) is not None), None)
        if known is None:
            report.new.append(leaf.path)
            continue
        below = tuple(other.name for other in source.leaves_under(known.path))
        if known is not leaf:
            report.started_from_parent[leaf.path] = known.path
            share = len(tree.leaves_under(known)) if source.is_leaf(known.path) else 1
            plan[leaf.name] = _Origin(below, -math.log(share))
        else:
            (report.matched if source.is_leaf(leaf.path) else report.merged).append(leaf.path)
            plan[leaf.name] = _Origin(below, math.log(len(below)))
    for node in tree.top_level:
        if not tree.is_leaf(node):
            (report.new if _find(source, node.path) is None else report.matched).append(node.path)
    used = {name for origin in plan.values() for name in origin.leaves}
    report.dropped.extend(leaf.path for leaf in source.leaves if leaf.name not in used)
    return plan


def _shared(heads: SharedHeads, tree: LabelTree, state: State, source: LabelTree, plan: Mapping[str, _Origin]) -> None:
    _load_branch(heads.branch, state, "heads.branch.")
    weight, bias = state["heads.superclass.weight"], state["heads.superclass.bias"]
    before = {node.path: column for column, node in enumerate(source.top_level)}
    columns = [(new, before[node.path]) for new, node in enumerate(tree.top_level) if node.path in before]
    for new, old in columns:
        _write(heads.superclass, new, weight[old], bias[old])

    weight, bias = state["heads.leaf.weight"], state["heads.leaf.bias"]
    if heads.prior_concatenation:
        # The columns that see superclass logits move with their nodes; those of new nodes are 0 in copied rows.
        hidden = weight.shape[1] - len(source.top_level)
        moved = weight.new_zeros(weight.shape[0], hidden + len(tree.top_level), *weight.shape[2:])
        moved[:, :hidden] = weight[:, :hidden]
        for new, old in columns:
            moved[:, hidden + new] = weight[:, hidden + old]
        weight = moved
    _write_leaves(heads.leaf, tree, source, plan, weight, bias)


def _separate(
    heads: SeparateHeads, tree: LabelTree, state: State, source: LabelTree, plan: Mapping[str, _Origin]
) -> None:
    before = {node.path: index for index, node in enumerate(source.top_level)}
    for index, node in enumerate(tree.top_level):
        if node.path not in before:
            continue
        old = before[node.path]
        _load_branch(heads.branches[index], state, f"heads.branches.{old}.")
        weight, bias = state[f"heads.superclass.{old}.weight"], state[f"heads.superclass.{old}.bias"]
        _write(heads.superclass[index], 0, weight[0], bias[0])
        if tree.is_leaf(node):
            continue
        if source.is_leaf(node.path):
            if heads.prior_concatenation:
                weight = torch.cat([weight, torch.zeros_like(weight[:, :1])], dim=1)
        else:
            weight, bias = state[f"heads.leaf.{old}.weight"], state[f"heads.leaf.{old}.bias"]
        row = {leaf.name: index_ for index_, leaf in enumerate(source.leaves_under(node.path))}
        for new_row, leaf in enumerate(tree.leaves_under(node)):
            origin = plan[leaf.name]
            rows = [row[name] for name in origin.leaves]
            _write(heads.leaf[index], new_row, weight[rows].mean(dim=0), bias[rows].mean() + origin.shift)


def _single(heads: SingleHead, tree: LabelTree, state: State, source: LabelTree, plan: Mapping[str, _Origin]) -> None:
    _load_branch(heads.activation, state, "heads.activation.")
    weight, bias = state["heads.score.weight"], state["heads.score.bias"]
    if isinstance(heads, LeafHead):
        _write_leaves(heads.score, tree, source, plan, weight, bias)
        return
    row = {node.path: index for index, node in enumerate(source.nodes)}
    for index, node in enumerate(tree.nodes):
        known = [row[other.path] for other in tree.siblings(node) if other.path in row]
        above = [row[other.path] for other in tree.ancestors(node) if other.path in row]
        if node.path in row:
            _write(heads.score, index, weight[row[node.path]], bias[row[node.path]])
        elif known:
            _write(heads.score, index, weight[known].mean(dim=0), bias[known].mean())
        elif above and isinstance(heads, RegionsHead):
            _write(heads.score, index, weight[above[0]], bias[above[0]])
        elif above:
            _write(heads.score, index, torch.zeros_like(weight[0]), torch.zeros_like(bias[0]))


def _write_leaves(
    conv: nn.Module,
    tree: LabelTree,
    source: LabelTree,
    plan: Mapping[str, _Origin],
    weight: torch.Tensor,
    bias: torch.Tensor,
) -> None:
    """The rows of a layer with one output a leaf."""
    row = {leaf.name: index for index, leaf in enumerate(source.leaves)}
    for index, leaf in enumerate(tree.leaves):
        if leaf.name in plan:
            origin = plan[leaf.name]
            rows = [row[name] for name in origin.leaves]
            _write(conv, index, weight[rows].mean(dim=0), bias[rows].mean() + origin.shift)


def _check_source(model: HierarchicalSegmenter, state: State, source: LabelTree) -> None:
    """Refuse a source whose heads are of another kind, or that does not belong to its tree."""
    single = isinstance(model.heads, SingleHead)
    if single != ("heads.score.weight" in state):
        was, now = ("two heads", "one") if single else ("one head", "two")
        raise ConfigError(f"the source has {was}, the new network {now}; use the source's 'head'.")
    if single:
        outputs = len(source.leaves if isinstance(model.heads, LeafHead) else source.nodes)
        if _rows(state, "heads.score.weight") != outputs:
            raise ConfigError(
                f"the source's output weights do not belong to its label tree '{source.name}'; get the bundle again."
            )
        return
    assert isinstance(model.heads, SeparateHeads | SharedHeads)
    separate = isinstance(model.heads, SeparateHeads)
    if separate != any(name.startswith("heads.branches.") for name in state):
        was, now = ("off", "on") if separate else ("on", "off")
        raise ConfigError(
            f"the source was trained with separate normalization {was}, the new network has it {now}; use the source's setting."
        )
    hidden = model.trunk.out_channels
    if separate:
        inner = [(index, node) for index, node in enumerate(source.top_level) if not source.is_leaf(node)]
        fits = sum(name.startswith("heads.superclass.") and name.endswith(".weight") for name in state) == len(
            source.top_level
        )
        fits = fits and all(
            _rows(state, f"heads.leaf.{index}.weight") == len(source.leaves_under(node)) for index, node in inner
        )
        prior = {state[f"heads.leaf.{index}.weight"].shape[1] > hidden for index, _ in inner} if fits else set()
    else:
        fits = _rows(state, "heads.superclass.weight") == len(source.top_level) and _rows(
            state, "heads.leaf.weight"
        ) == len(source.leaves)
        prior = {state["heads.leaf.weight"].shape[1] > hidden} if fits else set()
    if not fits:
        raise ConfigError(
            f"the source's output weights do not belong to its label tree '{source.name}'; get the bundle again."
        )
    same_width = state["heads.branches.0.2.weight" if separate else "heads.branch.2.weight"].shape[0] == hidden
    if same_width and prior == {not model.heads.prior_concatenation}:
        was, now = ("off", "on") if model.heads.prior_concatenation else ("on", "off")
        raise ConfigError(
            f"the source was trained with prior concatenation {was}, the new network has it {now}; use the source's setting."
        )


def _copy_trunk(model: HierarchicalSegmenter, state: State) -> int:
    """Copy the trunk's tensors and return their number; all must fit."""
    own = model.trunk.state_dict()
    given = {name.removeprefix("trunk."): tensor for name, tensor in state.items() if name.startswith("trunk.")}
    channels = model.arguments["in_channels"]
    for name, tensor in own.items():
        if name not in given:
            break
        theirs = given[name].shape
        if theirs != tensor.shape:
            first_layer = (
                len(theirs) == tensor.ndim > 1
                and theirs[0] == tensor.shape[0]
                and tensor.shape[1] == channels
                and theirs[2:] == tensor.shape[2:]
            )
            if first_layer:
                raise ConfigError(
                    f"the source reads {theirs[1]} image channels, the new network {channels}; use images with the source's channels or train from the start."
                )
            raise ConfigError(
                f"the trunk's tensor '{name}' has the shape {tuple(theirs)} in the source and {tuple(tensor.shape)} in the new network; use the source's trunk, width and dimensions."
            )
    if own.keys() != given.keys():
        name = min(own.keys() ^ given.keys())
        raise ConfigError(
            f"the source has another trunk (they differ in the tensor '{name}'); use the source's trunk and its arguments."
        )
    model.trunk.load_state_dict(given)
    return len(given)


def _load_branch(module: nn.Module, state: State, prefix: str) -> None:
    module.load_state_dict(
        {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    )


def _write(conv: nn.Module, row: int, weight: torch.Tensor, bias: torch.Tensor) -> None:
    for name, given in (("weight", weight), ("bias", bias)):
        own = conv.get_parameter(name)
        own[row] = given.to(own)


def _rows(state: State, name: str) -> int:
    return state[name].shape[0] if name in state else -1


def _find(tree: LabelTree, path: str) -> Node | None:
    """The node of exactly that path (looking it up in the tree would accept a bare name, too)."""
    return next((node for node in tree.nodes if node.path == path), None)
