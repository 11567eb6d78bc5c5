"""What a segment carries besides its voxels: text tags, kept in the scene and in ``.seg.nrrd``.

``.seg.nrrd`` joins the tags of a segment as ``key:value|key:value|`` without escaping: a ``|`` in a value cuts it off
there, a ``:`` in a key splits it.  :func:`set_tag` therefore refuses both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import vtk

from hierseg.errors import HiersegError

if TYPE_CHECKING:
    import slicer

#: ``<tree name>@<first 12 digits of the SHA-256 of its canonical JSON>``
TREE = "HierSubclassSeg.Tree"
#: the names from the top level down to the segment's node, joined by ``/``
PATH = "HierSubclassSeg.Path"
#: the node's value in label maps (never Slicer's ``LabelValue``, which belongs to the layer)
VALUE = "HierSubclassSeg.Value"
#: ``model:<bundle>@<version>``, ``manual`` or ``mixed``
SOURCE = "HierSubclassSeg.Source"
#: the whole tree as JSON; on one segment of the node only
TREE_JSON = "HierSubclassSeg.TreeJSON"
#: the branches' state as JSON; on the same segment, written when the scene is saved
STATE_JSON = "HierSubclassSeg.State"

ALGORITHM_TYPE = "DICOM.SegmentAlgorithmType"
ALGORITHM_NAME = "DICOM.SegmentAlgorithmName"
TERMINOLOGY = "TerminologyEntry"

#: names this module where a program must be named
TOOL = "HierSubclassSeg"

MANUAL = "manual"
MIXED = "mixed"


class SceneError(HiersegError):
    """Something in the scene (a node, a segment, a transform) cannot be used as it is."""


def get_tag(segment: slicer.vtkSegment, name: str, default: str | None = None) -> str | None:
    """The value of a segment's tag, or ``default`` if it has no such tag."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else default


def set_tag(segment: slicer.vtkSegment, name: str, value: str) -> None:
    """Set a segment's tag; does nothing if it has that value already (no event, no undo step spoilt).

    Raises:
        SceneError: the name holds ``:`` or ``|``, or the value holds ``|``: the file could not carry it.
    """
    if ":" in name or "|" in name or "|" in value:
        raise SceneError(
            f"segment '{segment.GetName()}': the tag {name} = {value!r} holds '|' or ':', which .seg.nrrd cannot store; remove it."
        )
    if get_tag(segment, name) != value:
        segment.SetTag(name, value)


def remove_tag(segment: slicer.vtkSegment, name: str) -> None:
    """Remove a tag if it is there."""
    if segment.HasTag(name):
        segment.RemoveTag(name)


def model_source(bundle_id: str) -> str:
    """The :data:`SOURCE` of what the bundle ``name@version`` predicted."""
    return f"model:{bundle_id.replace('|', '_')}"


def set_source(segment: slicer.vtkSegment, source: str) -> None:
    """Say where the segment's voxels come from, to us and to DICOM SEG export.

    ``model:<bundle>`` is AUTOMATIC, ``manual`` is MANUAL (which has no algorithm name), ``mixed`` is SEMIAUTOMATIC.
    """
    set_tag(segment, SOURCE, source)
    if source == MANUAL:
        set_tag(segment, ALGORITHM_TYPE, "MANUAL")
        remove_tag(segment, ALGORITHM_NAME)
    elif source == MIXED:
        set_tag(segment, ALGORITHM_TYPE, "SEMIAUTOMATIC")
        if not get_tag(segment, ALGORITHM_NAME):
            set_tag(segment, ALGORITHM_NAME, TOOL)
    else:
        set_tag(segment, ALGORITHM_TYPE, "AUTOMATIC")
        set_tag(segment, ALGORITHM_NAME, source.removeprefix("model:"))
