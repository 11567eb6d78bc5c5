"""The head MRI of the tutorial and of the self test: MRHead, which Slicer itself offers.

"MRHead … donated to 3D Slicer project by the persons visible in the images, to be used without any restrictions"
(Slicer's Sample Data module).  It is listed once more under the module's own name, so that a user of the tutorial finds
it; the checksum makes sure that it is the same file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

NAME = "MRHead"
TITLE = "Head MRI (MRHead)"
CATEGORY = "HierSubclassSeg"
SHA256 = "cc211f0dfd9a05ca3841ce1141b292898b2dd2d3f08286affadf823a7e58df93"


def register() -> None:
    """List the sample in Slicer's Sample Data module; called when Slicer has started."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=TITLE,
        uris=f"{slicer.util.TESTING_DATA_URL}SHA256/{SHA256}",
        fileNames="MR-head.nrrd",
        checksums=f"SHA256:{SHA256}",
        nodeNames=NAME,
        thumbnailFileName=str(Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "HierSubclassSeg.png"),
    )


def load() -> Any:
    """The sample as a volume node, downloaded if it is not in Slicer's cache.

    Returns:
        the node, or None if it could not be downloaded.
    """
    import SampleData

    loaded = SampleData.SampleDataLogic().downloadSamples(TITLE)
    return loaded[0] if loaded else None
