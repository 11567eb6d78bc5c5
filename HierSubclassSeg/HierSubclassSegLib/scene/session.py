"""A scene without the application: what Slicer sets up at its start, for tests, the demo and scripts.

Inside Slicer none of this is needed: its scene and logics are there already.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer

# By class, not by module: Slicer's own Colors and Terminologies logics look for the application's share folder and fill
# the log with errors where there is none.
_LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
}


@dataclass
class Session:
    """A scene and the logics that watch it; keep it as long as the scene is used.

    Attributes:
        scene: the scene.
        application_logic: knows the module logics, as in Slicer.
        folder: where a ``.mrb`` is unpacked; removed on :meth:`close`, with the session, or at the program's end.
        logics: the module logics by name (``"Segmentations"``, ...).
    """

    scene: slicer.vtkMRMLScene
    application_logic: Any
    folder: Path
    logics: dict[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        """Empty the scene and remove its temporary files."""
        self.scene.Clear(True)
        shutil.rmtree(self.folder, ignore_errors=True)


def open_session() -> Session:
    """A new, empty scene with the node classes of the modules that this project uses registered."""
    scene = slicer.vtkMRMLScene()
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    application_logic.SetTemporaryPath(tempfile.gettempdir())
    # Reading a .mrb unpacks it into the cache's folder.
    data_manager, cache = slicer.vtkDataIOManager(), slicer.vtkCacheManager()
    folder = Path(tempfile.mkdtemp(prefix="HierSubclassSeg-"))
    cache.SetRemoteCacheDirectory(str(folder))
    data_manager.SetCacheManager(cache)
    scene.SetDataIOManager(data_manager)
    session = Session(scene, application_logic, folder)
    # Not at the program's end alone: test workers leave without it.
    weakref.finalize(session, shutil.rmtree, folder, ignore_errors=True)
    for name, class_name in _LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(application_logic)
        if name != "Colors":
            application_logic.SetModuleLogic(name, logic)
        logic.SetMRMLScene(scene)
        session.logics[name] = logic
    return session
