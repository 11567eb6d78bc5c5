"""DICOM SEG by Slicer's own exporter; terminology and algorithm tags are on the segments already."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from HierSubclassSegLib.scene import dicom_copy


def missing() -> str:
    """Why this Slicer cannot export DICOM SEG, in a sentence; empty if it can."""
    plugins = getattr(slicer.modules, "dicomPlugins", {})
    if not hasattr(slicer.modules, "dicom") or not hasattr(slicer, "qSlicerDICOMExportDialog"):
        return _("This build of Slicer has no DICOM module, so it cannot write DICOM SEG.")
    if "DICOMSegmentationPlugin" not in plugins:
        return _(
            "Slicer's exporter for DICOM SEG is not loaded: switch the module DICOMSegmentationPlugin on in Edit → "
            "Application Settings → Modules, and restart Slicer."
        )
    return ""


def export(segmentation_node: Any, volume: Any) -> str:
    """Show Slicer's DICOM export dialog with the segmentation selected.

    Returns:
        A sentence if it cannot be shown; else empty.
    """
    sentence = missing()
    if sentence:
        return sentence
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    image = hierarchy.GetItemByDataNode(volume)
    if not image or not hierarchy.GetItemUID(image, "DICOM"):
        return _("'{name}' was not loaded from DICOM, so there is no study to export the segmentation to.").format(
            name=volume.GetName()
        )
    copy = dicom_copy.copy_without_empty(segmentation_node)
    if copy is None:
        return _("Nothing is annotated yet in '{name}': paint something first.").format(
            name=segmentation_node.GetName()
        )
    try:
        # What the exporter asks for: the study that it belongs to, and the images that it was drawn on.
        item = hierarchy.GetItemByDataNode(copy)
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(image))
        hierarchy.SetItemAttribute(
            item, "DICOM.ReferencedInstanceUIDs", volume.GetAttribute("DICOM.instanceUIDs") or ""
        )
        _ask(item)
    finally:
        dicom_copy.remove_copy(copy)
    return ""


def _ask(item: int) -> None:
    """Slicer's dialog; it is gone at the end, so that it does not follow what leaves the scene then."""
    dialog = slicer.qSlicerDICOMExportDialog()
    dialog.setMRMLScene(slicer.mrmlScene)
    dialog.execDialog(item)
