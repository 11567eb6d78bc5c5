"""A DICOM series of a volume in the scene, as a scanner would have sent it; made up, like the patient.  Runs inside Slicer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


def write_series(volume: Any, folder: Path) -> str:
    """Write one file a slice (DICOM PS3.3, C.7.6.2: positions and directions are LPS, in mm).

    Args:
        volume: a scalar volume; its voxels become uint16.
        folder: for the files.

    Returns:
        the UID of the series.
    """
    import vtk
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import generate_uid

    array = slicer.util.arrayFromVolume(volume).astype(np.float64)
    array = np.round(4000 * (array - array.min()) / max(1e-6, float(np.ptp(array)))).astype(np.uint16)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
    directions = to_lps[:3, :3] / spacing
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for number, plane in enumerate(array):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MR_IMAGE, EXPLICIT_LITTLE_ENDIAN
        meta.MediaStorageSOPInstanceUID = generate_uid()
        one = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = MR_IMAGE, meta.MediaStorageSOPInstanceUID
        one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "Tour^Head", "TOUR-1", "", "O"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber = "20260101", "120000", "1", ""
        one.ReferringPhysicianName, one.StudyDescription = "", "Head"
        one.Modality, one.Manufacturer, one.SeriesDescription, one.SeriesNumber = "MR", "none", "T1", 3
        one.ScanningSequence, one.SequenceVariant, one.ScanOptions, one.MRAcquisitionType = "GR", "SP", "", "3D"
        one.PositionReferenceIndicator = one.Laterality = ""
        one.ImageType, one.InstanceNumber = ["ORIGINAL", "PRIMARY", "M"], number + 1
        one.ImagePositionPatient = [f"{value:.8g}" for value in (to_lps @ [0, 0, number, 1])[:3]]
        one.ImageOrientationPatient = [f"{value:.8g}" for value in (*directions[:, 0], *directions[:, 1])]
        # Rows come first: the spacing between rows is the one along j.
        one.PixelSpacing, one.SliceThickness = [f"{value:.8g}" for value in spacing[[1, 0]]], f"{spacing[2]:.8g}"
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.Rows, one.Columns = plane.shape
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        one.PixelData = np.ascontiguousarray(plane).tobytes()
        one.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
    return str(series)


def read_segments(file: Path) -> list[dict[str, Any]]:
    """What a DICOM SEG file holds, read without Slicer's own importer (DICOM PS3.3, C.8.20).

    Returns:
        for each segment its label, codes, algorithm, and how many voxels are set.
    """
    import pydicom

    whole = pydicom.dcmread(file)
    bits = np.unpackbits(np.frombuffer(whole.PixelData, dtype=np.uint8), bitorder="little")
    pixels = int(whole.Rows) * int(whole.Columns)
    frames = bits[: pixels * int(whole.NumberOfFrames)].reshape(int(whole.NumberOfFrames), pixels)
    of_segment = [
        int(one.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for one in whole.PerFrameFunctionalGroupsSequence
    ]
    counts = dict.fromkeys(of_segment, 0)
    for number, frame in zip(of_segment, frames, strict=True):
        counts[number] += int(frame.sum())

    def code(sequence: Any) -> tuple[str, ...]:
        one = sequence[0]
        return str(one.CodingSchemeDesignator), str(one.CodeValue), str(one.CodeMeaning)

    return [
        {
            "label": str(one.SegmentLabel),
            "category": code(one.SegmentedPropertyCategoryCodeSequence),
            "type": code(one.SegmentedPropertyTypeCodeSequence),
            "modifier": code(one.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence)
            if "SegmentedPropertyTypeModifierCodeSequence" in one.SegmentedPropertyTypeCodeSequence[0]
            else (),
            "algorithm": (str(one.SegmentAlgorithmType), str(one.get("SegmentAlgorithmName", ""))),
            "voxels": counts.get(int(one.SegmentNumber), 0),
        }
        for one in whole.SegmentSequence
    ]
