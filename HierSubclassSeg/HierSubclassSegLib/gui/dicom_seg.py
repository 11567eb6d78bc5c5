"""DICOM SEG by Slicer's own exporter; terminology and algorithm tags are on the segments already."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _


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
    item, image = hierarchy.GetItemByDataNode(segmentation_node), hierarchy.GetItemByDataNode(volume)
    instances = "DICOM.instanceUIDs"
    if not image or not hierarchy.GetItemUID(image, "DICOM"):
        return _("'{name}' was not loaded from DICOM, so there is no study to export the segmentation to.").format(
            name=volume.GetName()
        )
    # What the exporter asks for: the study that it belongs to, and the images that it was drawn on.
    hierarchy.SetItemParent(item, hierarchy.GetItemParent(image))
    hierarchy.SetItemAttribute(item, "DICOM.ReferencedInstanceUIDs", volume.GetAttribute(instances) or "")
    dialog = slicer.qSlicerDICOMExportDialog()
    dialog.setMRMLScene(slicer.mrmlScene)
    dialog.execDialog(item)
    return ""
