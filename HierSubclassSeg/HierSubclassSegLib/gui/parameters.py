"""What the panel remembers in the scene: saved with it, restored with it."""

from slicer import vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import parameterNodeWrapper


@parameterNodeWrapper
class PanelParameters:
    """The user's choices; widgets name theirs in their ``SlicerParameterName`` property.

    The volumes of a model's channels are node references of the wrapped node, by :func:`input_role`: how many there are
    depends on the model.

    Attributes:
        model: ``name@version`` of the chosen bundle.
        device: "auto", or what the worker calls a device.
        result: the segmentation whose hierarchy is shown.
        dataset: the dataset folder that is annotated into and trained on.
        annotation: the segmentation that is annotated.
        outside: what becomes of a subclass outside its superclass by edits made elsewhere: "grow" the superclass,
            "clip" the subclass, or "" as long as the user was not asked.
    """

    model: str = ""
    device: str = "auto"
    result: vtkMRMLSegmentationNode
    dataset: str = ""
    annotation: vtkMRMLSegmentationNode
    outside: str = ""


def input_role(channel: str) -> str:
    """The node reference role of the volume for a channel; channels of one name share it across models."""
    return f"HierSubclassSeg.Input.{channel}"
