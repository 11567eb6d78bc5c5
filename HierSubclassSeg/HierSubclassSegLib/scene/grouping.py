"""Grouping: the segments of any segmentation become nodes of a label tree.

Whatever made the segments, they are told by what they carry (see ``matching``).
A :class:`Plan` says which segment becomes which node, which ones fit none and why, and where a person must choose.
:func:`apply_plan` writes it: tags alone.  No segment is added, removed, renamed or recolored, and no voxel changes.

>>> plan = plan_grouping(segmentation_node, tree)                                # doctest: +SKIP
>>> plan.summary
"117 of 117 segments belong to 'TotalSegmentator CT'."
>>> apply_plan(segmentation_node, plan, save_state=widget.saveStateForUndo)       # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import labelmaps, matching, tags, tree_store
from HierSubclassSegLib.scene.annotation import foreign_source
from HierSubclassSegLib.scene.matching import RANK, By


@dataclass(frozen=True)
class Match:
    """A segment that becomes a node, and what it was told by."""

    segment_id: str
    segment_name: str
    node: Node
    by: By


@dataclass(frozen=True)
class Unmatched:
    """A segment that stays as it is, and why, in a sentence."""

    segment_id: str
    segment_name: str
    reason: str
    candidates: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Which segments become which nodes of a tree.

    Attributes:
        tree: the tree.
        matched: in the order of the segments, each node at most once.
        unmatched: fit no node; they stay as they are.
        ambiguous: fit several nodes, or share one with another segment: ``candidates`` says which.  They stay as they
            are until :meth:`assigned` says more.
    """

    tree: LabelTree
    matched: tuple[Match, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()
    ambiguous: tuple[Unmatched, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether every segment has a node, so that there is nothing to ask."""
        return bool(self.matched) and not self.unmatched and not self.ambiguous

    @property
    def summary(self) -> str:
        """One sentence for a person."""
        total = len(self.matched) + len(self.unmatched) + len(self.ambiguous)
        text = f"{len(self.matched)} of {total} segments belong to '{self.tree.name}'"
        rest = [
            f"{len(rows)} {what}"
            for rows, what in ((self.ambiguous, "need a choice"), (self.unmatched, "fit no node"))
            if rows
        ]
        return f"{text}; {', '.join(rest)}." if rest else f"{text}."

    def assigned(self, segment_id: str, node: Node | str | None) -> Plan:
        """The plan with a person's choice for one segment: a node, or None to leave it as it is.

        Another segment that had the node needs a choice then.

        Raises:
            SceneError: the plan has no such segment.
        """
        rows: list[Match | Unmatched] = [*self.matched, *self.unmatched, *self.ambiguous]
        name = next((row.segment_name for row in rows if row.segment_id == segment_id), None)
        if name is None:
            raise tags.SceneError(f"the plan has no segment with the ID {segment_id!r}; make the plan again.")
        matched = [row for row in self.matched if row.segment_id != segment_id]
        unmatched = [row for row in self.unmatched if row.segment_id != segment_id]
        ambiguous = [row for row in self.ambiguous if row.segment_id != segment_id]
        if node is None:
            unmatched.append(Unmatched(segment_id, name, f"'{name}' was left out."))
        else:
            chosen = self.tree.node(node)
            for row in [row for row in matched if row.node == chosen]:
                matched.remove(row)
                reason = f"'{chosen.name}' was given to '{name}'."
                ambiguous.append(Unmatched(row.segment_id, row.segment_name, reason, (chosen,)))
            matched.append(Match(segment_id, name, chosen, "choice"))
        return replace(self, matched=tuple(matched), unmatched=tuple(unmatched), ambiguous=tuple(ambiguous))


def plan_grouping(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> Plan:
    """Which segments of a segmentation belong to which nodes of a tree; changes nothing."""
    finder = matching.Finder(tree)
    matched: list[Match] = []
    unmatched: list[Unmatched] = []
    ambiguous: list[Unmatched] = []
    for segment_id, segment in tree_store.segments(segmentation_node):
        name = segment.GetName() or segment_id
        by, nodes = finder.find(segment)
        if not nodes:
            reason = f"no node of '{tree.name}' has the codes, the name or the alias of '{name}'."
            unmatched.append(Unmatched(segment_id, name, reason))
        elif len(nodes) > 1:
            ambiguous.append(Unmatched(segment_id, name, f"'{name}' fits {_listed(nodes)}.", tuple(nodes)))
        else:
            matched.append(Match(segment_id, name, nodes[0], by))
    return _one_each(Plan(tree, tuple(matched), tuple(unmatched), tuple(ambiguous)))


def apply_plan(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    plan: Plan,
    *,
    save_state: Callable[[], Any] | None = None,
) -> None:
    """Make the matched segments nodes of the plan's tree, as one undo step.

    Segments without a node lose what tags of ours they had and keep all else.

    Args:
        segmentation_node: the one that the plan was made for.
        plan: what is to become what.
        save_state: saves the state for undo: the embedded Segment Editor's ``saveStateForUndo``.

    Raises:
        SceneError: the plan matches no segment, or a segment has gone since it was made.
    """
    segmentation = segmentation_node.GetSegmentation()
    if not plan.matched:
        raise tags.SceneError(
            f"no segment of '{segmentation_node.GetName()}' fits the label tree '{plan.tree.name}'; choose another tree, or give segments nodes by hand."
        )
    gone = next((row for row in plan.matched if segmentation.GetSegment(row.segment_id) is None), None)
    if gone is not None:
        raise tags.SceneError(
            f"the segment '{gone.segment_name}' has gone since the grouping was planned; group again."
        )
    if save_state is not None:
        save_state()
    nodes = {row.segment_id: row.node for row in plan.matched}
    with labelmaps.modifying(segmentation_node):
        for segment_id, segment in tree_store.segments(segmentation_node):
            node = nodes.get(segment_id)
            if node is None:
                for name in (tags.TREE, tags.PATH, tags.VALUE, tags.TREE_JSON):
                    tags.remove_tag(segment, name)
                continue
            source = foreign_source(segment)
            tags.set_tag(segment, tags.PATH, node.path)
            tags.set_tag(segment, tags.TREE, plan.tree.fingerprint)
            tags.set_tag(segment, tags.VALUE, str(node.value))
            if tags.get_tag(segment, tags.ALGORITHM_TYPE) is None:
                tags.set_source(segment, source)
            else:
                tags.set_tag(segment, tags.SOURCE, source)
        tree_store.write_tree(segmentation_node, plan.tree)


def is_grouped(segmentation_node: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether any segment belongs to a tree: false again after a grouping is undone, though its tree is remembered."""
    return any(segment.HasTag(tags.TREE) for _, segment in tree_store.segments(segmentation_node))


def best_tree(segmentation_node: slicer.vtkMRMLSegmentationNode, trees: Iterable[LabelTree]) -> Plan | None:
    """The plan, of those for several trees, that leaves the fewest segments without a node; None if none fits any."""
    plans = [plan for plan in (plan_grouping(segmentation_node, tree) for tree in trees) if plan.matched]
    return max(plans, key=lambda plan: (len(plan.matched), -len(plan.tree.nodes)), default=None)


def segmentation_of_label_map(
    label_map_node: slicer.vtkMRMLLabelMapVolumeNode, name: str | None = None
) -> slicer.vtkMRMLSegmentationNode:
    """A new segmentation of a label map volume by Slicer's own import: a segment a value, named by its color table.

    The label map stays.  At large sizes this takes Slicer seconds.

    Raises:
        SceneError: Slicer cannot import it, or it holds nothing but 0.
    """
    scene = label_map_node.GetScene()
    node = scene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", scene.GenerateUniqueName(name or f"{label_map_node.GetName()} segmentation")
    )
    node.CreateDefaultDisplayNodes()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.ImportLabelmapToSegmentationNode(label_map_node, node) or not (
        node.GetSegmentation().GetNumberOfSegments()
    ):
        scene.RemoveNode(node)
        raise tags.SceneError(
            f"the label map '{label_map_node.GetName()}' holds no labels that can be imported; choose another one."
        )
    node.SetReferenceImageGeometryParameterFromVolumeNode(label_map_node)
    return node


# -- inside --------------------------------------------------------------------------------------------------------


def _one_each(plan: Plan) -> Plan:
    """Of several segments that match one node the surest gets it; equally sure ones need a choice."""
    by_node: dict[str, list[Match]] = {}
    for row in plan.matched:
        by_node.setdefault(row.node.name, []).append(row)
    matched, ambiguous, unmatched = [], list(plan.ambiguous), list(plan.unmatched)
    for row in plan.matched:
        rivals = by_node[row.node.name]
        best = min(RANK.index(rival.by) for rival in rivals)
        surest = [rival for rival in rivals if RANK.index(rival.by) == best]
        if row not in surest:
            reason = f"'{surest[0].segment_name}' fits '{row.node.name}' better."
            unmatched.append(Unmatched(row.segment_id, row.segment_name, reason, (row.node,)))
        elif len(surest) > 1:
            others = ", ".join(f"'{other.segment_name}'" for other in surest if other is not row)
            reason = f"'{row.segment_name}' and {others} all fit '{row.node.name}'."
            ambiguous.append(Unmatched(row.segment_id, row.segment_name, reason, (row.node,)))
        else:
            matched.append(row)
    return replace(plan, matched=tuple(matched), unmatched=tuple(unmatched), ambiguous=tuple(ambiguous))


def _listed(nodes: Iterable[Node]) -> str:
    names = [f"'{node.name}'" for node in nodes]
    return ", ".join(names[:-1]) + f" and {names[-1]}"
