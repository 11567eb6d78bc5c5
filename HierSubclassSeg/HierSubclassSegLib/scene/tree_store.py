"""The label tree that a segmentation node carries, and which segment is which node.

The tree lives in segment tags, so that undo, ``.seg.nrrd`` and ``.mrb`` treat it as they treat the segments: every
segment names its tree by fingerprint and its node by path, and one segment, the *home*, holds the whole tree as JSON.
If the home is deleted, the node's attribute :data:`TREES` still knows the tree (the last few by fingerprint, since an
undo can ask for an older one), and :func:`rehome` gives it a new home.

What undo must not take back (lock, folding, complete marks) is the *state*: a JSON object in the attribute
:data:`STATE`, mirrored to a tag of the home by :func:`mirror_state` before a file is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import slicer

from hierseg.errors import LabelTreeError
from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import colors, tags, terminology

#: attribute of the segmentation node: {fingerprint: tree}, newest last
TREES = "HierSubclassSeg.Trees"
#: attribute of the segmentation node: the branches' state
STATE = "HierSubclassSeg.State"
#: attribute of the segmentation node: "prediction" or "annotation"
ROLE = "HierSubclassSeg.Role"
_TREES_KEPT = 4


def segments(segmentation_node: slicer.vtkMRMLSegmentationNode) -> Iterator[tuple[str, slicer.vtkSegment]]:
    """The segments with their IDs, in the node's order."""
    segmentation = segmentation_node.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        yield segmentation.GetNthSegmentID(index), segmentation.GetNthSegment(index)


def read_tree(segmentation_node: slicer.vtkMRMLSegmentationNode) -> LabelTree | None:
    """The tree that the node's segments belong to, or None if it has none.

    Writes nothing: it may be called in answer to an undo.

    Raises:
        SceneError: the stored tree is damaged.
    """
    fingerprint = None
    for _, segment in segments(segmentation_node):
        content = tags.get_tag(segment, tags.TREE_JSON)
        if content:
            try:
                return _parse(content)
            except (json.JSONDecodeError, LabelTreeError) as error:
                raise tags.SceneError(
                    f"'{segmentation_node.GetName()}': the label tree in its segment '{segment.GetName()}' is damaged "
                    f"({error}); group the segmentation by a label tree again."
                ) from error
        fingerprint = fingerprint or tags.get_tag(segment, tags.TREE)
    known = _known_trees(segmentation_node)
    if fingerprint is None:
        # Without a segment of any node (all deleted, or none yet) the newest tree is the node's.
        fingerprint = next(reversed(known), None)
    return LabelTree.from_dict(known[fingerprint]) if fingerprint in known else None


def write_tree(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> None:
    """Make ``tree`` the node's tree: its home, the fingerprint on every segment that belongs to a tree, the attribute.

    Segments whose path is no longer in the tree keep their tags but the fingerprint, so that nothing painted is lost;
    they count as foreign until they are given a node again.
    """
    remember_tree(segmentation_node, tree)
    for _, segment in segments(segmentation_node):
        path = tags.get_tag(segment, tags.PATH)
        if path is not None and path in tree:
            tags.set_tag(segment, tags.TREE, tree.fingerprint)
            tags.set_tag(segment, tags.VALUE, str(tree.node(path).value))
        elif path is not None:
            tags.remove_tag(segment, tags.TREE)
    _set_home(segmentation_node, tags.TREE_JSON, _without_bar(tree.canonical_json))


def remember_tree(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> None:
    """Let the attribute know the tree, should its home be deleted.  Touches no segment: it may follow an undo."""
    known = _known_trees(segmentation_node)
    if tree.fingerprint in known and tree.fingerprint == next(reversed(known)):
        return
    known.pop(tree.fingerprint, None)
    known[tree.fingerprint] = tree.to_dict()
    newest = dict(list(known.items())[-_TREES_KEPT:])
    segmentation_node.SetAttribute(TREES, json.dumps(newest, separators=(",", ":")))


def rehome(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """Give the tree a home again if its segment was deleted; no effect otherwise.  Not to be called after an undo."""
    tree = read_tree(segmentation_node)
    if tree is not None and segmentation_node.GetSegmentation().GetNumberOfSegments():
        _set_home(segmentation_node, tags.TREE_JSON, _without_bar(tree.canonical_json))


def segment_id_of(segmentation_node: slicer.vtkMRMLSegmentationNode, node: Node | str) -> str | None:
    """The ID of the segment of that tree node (a node or its path), or None if it has no segment."""
    path = node.path if isinstance(node, Node) else node
    for segment_id, segment in segments(segmentation_node):
        if tags.get_tag(segment, tags.PATH) == path and segment.HasTag(tags.TREE):
            return segment_id
    return None


def node_of(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, tree: LabelTree | None = None
) -> Node | None:
    """The tree node of a segment, or None if the segment belongs to no node.  Give ``tree`` when asking often."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    path = tags.get_tag(segment, tags.PATH) if segment else None
    if path is None or not segment.HasTag(tags.TREE):
        return None
    tree = tree or read_tree(segmentation_node)
    return tree.node(path) if tree is not None and path in tree else None


def segments_by_path(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> dict[str, str]:
    """Segment ID by node path, for the segments that belong to the tree, in the node's order."""
    found: dict[str, str] = {}
    for segment_id, segment in segments(segmentation_node):
        path = tags.get_tag(segment, tags.PATH)
        if path is not None and segment.HasTag(tags.TREE) and path in tree:
            found.setdefault(path, segment_id)
    return found


def add_segment(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    node: Node | str,
    source: str = tags.MANUAL,
    labelmap: slicer.vtkOrientedImageData | None = None,
    label_value: int = 1,
) -> str:
    """Add the segment of a tree node: name, color, terminology and tags; the first one becomes the tree's home.

    Args:
        segmentation_node: gets the segment at the end of its list.
        tree: the node's tree.
        node: a node of it, its name or its path.
        source: ``model:<bundle>``, ``manual`` or ``mixed``.
        labelmap: its binary label map, shared with other segments if they are given the same object; None: empty.
        label_value: the value of the segment's voxels in ``labelmap``.

    Returns:
        The segment's ID; if the node has a segment already, that one's ID, unchanged.
    """
    node = tree.node(node)
    existing = segment_id_of(segmentation_node, node)
    if existing is not None:
        return existing
    segment = slicer.vtkSegment()
    segment.SetName(node.name)
    dress(segment, tree, node, source)
    if labelmap is not None:
        segment.SetLabelValue(label_value)
    image = labelmap if labelmap is not None else slicer.vtkOrientedImageData()
    segment.AddRepresentation(slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName(), image)
    segmentation = segmentation_node.GetSegmentation()
    # The ID says which node it is at first sight, never changes, and holds nothing that a file format could trip over.
    segment_id = segmentation.GenerateUniqueSegmentID(f"HierSubclassSeg_{node.value}")
    segmentation.AddSegment(segment, segment_id)
    if not any(other.HasTag(tags.TREE_JSON) for _, other in segments(segmentation_node)):
        write_tree(segmentation_node, tree)
    return segment_id


def dress(segment: slicer.vtkSegment, tree: LabelTree, node: Node, source: str | None = None) -> None:
    """Give a segment the color, terminology and tags of a tree node (not its name: that may be the user's)."""
    segment.SetColor(*colors.node_color(tree, node))
    segment.SetNameAutoGenerated(False)
    segment.SetColorAutoGenerated(False)
    tags.set_tag(segment, tags.TERMINOLOGY, terminology.terminology_entry(tree, node))
    tags.set_tag(segment, tags.TREE, tree.fingerprint)
    tags.set_tag(segment, tags.PATH, node.path)
    tags.set_tag(segment, tags.VALUE, str(node.value))
    if source is not None:
        tags.set_source(segment, source)


# -- state that undo must not take back ---------------------------------------------------------------------------


def read_state(segmentation_node: slicer.vtkMRMLSegmentationNode) -> dict[str, Any]:
    """The branches' state: an object with the keys that its users choose (``locked``, ``folded``, ``complete``...).

    The attribute wins; after loading a ``.seg.nrrd``, which has no attributes, the mirrored tag is read.
    """
    content = segmentation_node.GetAttribute(STATE)
    if content is None:
        found = (tags.get_tag(segment, tags.STATE_JSON) for _, segment in segments(segmentation_node))
        content = next((text for text in found if text), None)
    try:
        state = json.loads(content) if content else {}
    except json.JSONDecodeError:
        # Marks and locks can be set again; an annotation that cannot be opened because of them could not.
        state = {}
    return state if isinstance(state, dict) else {}


def write_state(segmentation_node: slicer.vtkMRMLSegmentationNode, state: dict[str, Any]) -> None:
    """Set the branches' state in the node's attribute: no segment is touched, so undo and redo stay as they are."""
    segmentation_node.SetAttribute(STATE, json.dumps(state, separators=(",", ":"), sort_keys=True))


def mirror_state(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """Before a file is written: re-home the tree, copy the state into a tag beside it, and word our codes anew."""
    tree = read_tree(segmentation_node)
    if tree is None:
        return
    rehome(segmentation_node)
    for path, segment_id in segments_by_path(segmentation_node, tree).items():
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
        entry = terminology.terminology_entry(tree, tree.node(path))
        if terminology.same_codes(tags.get_tag(segment, tags.TERMINOLOGY) or "", entry):
            # The node may have been renamed.
            tags.set_tag(segment, tags.TERMINOLOGY, entry)
    state = read_state(segmentation_node)
    if state:
        _set_home(
            segmentation_node, tags.STATE_JSON, _without_bar(json.dumps(state, separators=(",", ":"), sort_keys=True))
        )


def unmirror_state(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """After a file was read: the tag's state becomes the attribute, unless the scene brought one."""
    if segmentation_node.GetAttribute(STATE) is None:
        state = read_state(segmentation_node)
        if state:
            write_state(segmentation_node, state)


@lru_cache(maxsize=16)
def _parse(content: str) -> LabelTree:
    """Trees are immutable, and the same text is read at every stroke."""
    return LabelTree.from_dict(json.loads(content))


def _known_trees(segmentation_node: slicer.vtkMRMLSegmentationNode) -> dict[str, Any]:
    content = segmentation_node.GetAttribute(TREES)
    return json.loads(content) if content else {}


def _set_home(segmentation_node: slicer.vtkMRMLSegmentationNode, tag: str, content: str) -> None:
    first = True
    for _, segment in segments(segmentation_node):
        if first:
            tags.set_tag(segment, tag, content)
        else:
            tags.remove_tag(segment, tag)
        first = False


def _without_bar(content: str) -> str:
    # "|" can only stand inside a JSON text's strings, where this escape means the same.
    return content.replace("|", "\\u007c")
