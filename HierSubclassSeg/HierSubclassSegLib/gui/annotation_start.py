"""How an annotation begins: from a prediction, from any segmentation, or empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from hierseg import resources
from hierseg.errors import HiersegError
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.gui.job import Job
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene import annotation, prediction, tags, tree_store
from HierSubclassSegLib.ticks import Steps

WHOLE, SUPERCLASSES, EMPTY = range(3)
_VOLUME, _SEGMENTATION = "vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode"


class AnnotationStart:
    """A box in the page with what a new annotation needs, and a button; hidden until it is wanted.

    Args:
        created: called with the new annotation.
        go_on: called with an annotation that is there already, if the user would rather go on with it.
    """

    def __init__(self, created: Callable[[Any], None], go_on: Callable[[Any], None]) -> None:
        self._created = created
        self._go_on = go_on
        self._trees: list[LabelTree] = []
        self._earlier: Any = None
        self._asking = False
        self._job = Job(self._advanced)
        self._make_widgets()

    def ask(self, source: Any = None) -> None:
        """Show the box, with a segmentation to begin from."""
        self.message.say("")
        self.source.setCurrentNode(source)
        if source is None and self.volume.currentNode() is None and self.volume.nodeCount():
            self.volume.setCurrentNodeIndex(0)
        self._asking = True
        self.widget.visible = True
        self._source_changed()

    @property
    def asking(self) -> bool:
        """Whether the box is there."""
        return self._asking

    def hide(self, *_arguments: object) -> None:
        """The box is not wanted any more."""
        self._job.cancel()
        self._asking = False
        self.widget.visible = False

    def close(self) -> None:
        """The module is going."""
        self._job.cancel()
        for selector in (self.source, self.volume):
            selector.setMRMLScene(None)

    def create(self) -> None:
        """Make the annotation that the box describes, in small steps; a sentence says so if that cannot be."""
        source = self.source.currentNode()

        def wanted() -> bool:
            return source is None or source.GetScene() is not None

        def done(made: tuple[Any, list[str]]) -> None:
            node, self.left_out = made
            if source is not None:
                source.SetDisplayVisibility(False)
            self.hide()
            self._created(node)

        def failed(error: HiersegError) -> None:
            self.message.say(error.sentence, error=True, tip=error.hint)

        self.message.say("")
        self._job.start(self._steps, done, failed, wanted=wanted)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _steps(self) -> Steps[tuple[Any, list[str]]]:
        """The annotation, and the names of segments that were left out."""
        yield 0.0
        source, tree, volume = self.source.currentNode(), self.tree, self.volume.currentNode()
        content = self.content.currentIndex
        if source is not None and tree_store.read_tree(source) is not None:
            own = prediction.volumes_of(source) or ([volume] if volume is not None else [])
            tree = annotation.tree_of(source)
            predicted = source if _is_prediction(source) else None
            if content == EMPTY:
                return annotation.create_annotation(own, tree, prediction_node=predicted), []
            if predicted is not None:
                only = content == SUPERCLASSES
                return (yield from annotation.from_prediction_steps(source, superclasses_only=only)), []
            return (yield from annotation.from_segmentation_steps(source, tree, own))
        if volume is None:
            raise tags.SceneError("choose the volume that the annotation is drawn on.")
        if tree is None:
            raise tags.SceneError("choose a label tree for the annotation.")
        if source is None:
            return annotation.create_annotation([volume], tree), []
        return (yield from annotation.from_segmentation_steps(source, tree, [volume]))

    def _advanced(self, fraction: float | None) -> None:
        self.button.enabled = fraction is None
        self.button.text = _("Create") if fraction is None else f"{round(100 * fraction)} %"

    @property
    def tree(self) -> LabelTree | None:
        """The label tree that is chosen."""
        index = self.trees.currentIndex
        return self._trees[index] if 0 <= index < len(self._trees) else None

    def _source_changed(self, *_arguments: object) -> None:
        if not self._asking:
            return
        source = self.source.currentNode()
        has_tree = source is not None and tree_store.read_tree(source) is not None
        own = prediction.volumes_of(source) if source is not None else []
        predicted = source is not None and _is_prediction(source)
        self._earlier = _annotation_of(source) if predicted else None
        for part, wanted in (
            (self.content, has_tree),
            (self.content_label, has_tree),
            (self.trees, not has_tree),
            (self.trees_label, not has_tree),
            (self.volume, not (has_tree and own)),
            (self.volume_label, not (has_tree and own)),
            (self.earlier, self._earlier is not None),
        ):
            part.visible = wanted
        if self._earlier is not None:
            self.earlier.text = _("Go on with '{name}'").format(name=self._earlier.GetName())
        if own and self.volume.currentNode() is not own[0]:
            self.volume.setCurrentNode(own[0])
        self.content.model().item(SUPERCLASSES).setEnabled(predicted)
        if not predicted and self.content.currentIndex == SUPERCLASSES:
            self.content.currentIndex = WHOLE
        if not has_tree:
            self._list_trees()

    def _list_trees(self) -> None:
        if self._trees:
            return
        self.trees.clear()
        for name in resources.names("label_trees"):
            try:
                self._add_tree(LabelTree.load(resources.path("label_trees", name)))
            except HiersegError as error:
                self.message.say(error.sentence, error=True, tip=error.hint)
        self.trees.addItem(_("From a file…"))

    def _add_tree(self, tree: LabelTree) -> None:
        self.trees.insertItem(len(self._trees), tree.name)
        self._trees.append(tree)

    def _tree_chosen(self, index: int) -> None:
        if index != len(self._trees):
            return
        path = qt.QFileDialog.getOpenFileName(self.widget, _("Open a label tree"), "", _("Label trees") + " (*.json)")
        self.trees.currentIndex = 0
        if not path:
            return
        try:
            self._add_tree(LabelTree.load(path))
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        self.trees.currentIndex = len(self._trees) - 1

    def _make_widgets(self) -> None:
        self.left_out: list[str] = []
        self.widget = qt.QGroupBox(_("New annotation"))
        self.widget.objectName = "annotationStart"
        self.widget.visible = False
        form = qt.QFormLayout(self.widget)
        form.setFieldGrowthPolicy(qt.QFormLayout.ExpandingFieldsGrow)
        self.source = self._selector("annotationSource", _SEGMENTATION, _("Nothing (empty)"))
        self.volume = self._selector("annotationVolume", _VOLUME, _("Choose a volume"))
        self.source.currentNodeIDChanged.connect(self._source_changed)
        self.content = qt.QComboBox()
        self.content.objectName = "annotationContent"
        for text in (_("All of it"), _("Only the superclasses"), _("Nothing, only its label tree")):
            self.content.addItem(text)
        self.trees = qt.QComboBox()
        self.trees.objectName = "annotationTree"
        self.trees.activated.connect(self._tree_chosen)
        self.content_label, self.trees_label, self.volume_label = (
            qt.QLabel(_("Take:")),
            qt.QLabel(_("Label tree:")),
            qt.QLabel(_("Volume:")),
        )
        form.addRow(_("From:"), self.source)
        form.addRow(self.content_label, self.content)
        form.addRow(self.trees_label, self.trees)
        form.addRow(self.volume_label, self.volume)
        form.addRow(self._buttons())
        self.message = Message()
        form.addRow(self.message.widget)

    def _buttons(self) -> Any:
        buttons = qt.QWidget()
        row = qt.QHBoxLayout(buttons)
        row.setContentsMargins(0, 0, 0, 0)
        self.earlier = qt.QPushButton()
        self.earlier.objectName = "goOnButton"
        self.earlier.visible = False
        self.earlier.clicked.connect(self._earlier_clicked)
        self.button = qt.QPushButton(_("Create"))
        self.button.objectName = "createAnnotationButton"
        self.button.clicked.connect(lambda *_arguments: self.create())
        cancel = qt.QPushButton(_("Cancel"))
        cancel.clicked.connect(self.hide)
        row.addWidget(self.earlier)
        row.addStretch(1)
        row.addWidget(cancel)
        row.addWidget(self.button)
        return buttons

    def _earlier_clicked(self) -> None:
        self.hide()
        if self._earlier is not None:
            self._go_on(self._earlier)

    @staticmethod
    def _selector(name: str, kind: str, none: str) -> Any:
        selector = slicer.qMRMLNodeComboBox()
        selector.objectName = name
        selector.nodeTypes = [kind]
        selector.addEnabled = selector.removeEnabled = False
        selector.noneEnabled = True
        selector.noneDisplay = none
        selector.setMRMLScene(slicer.mrmlScene)
        return selector


def _is_prediction(node: Any) -> bool:
    return bool(node.GetAttribute(tree_store.ROLE) == "prediction")


def _annotation_of(predicted: Any) -> Any:
    """The latest annotation that began from a prediction, or None."""
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass(_SEGMENTATION)
    nodes = [scene.GetNthNodeByClass(index, _SEGMENTATION) for index in range(count)]
    found = [node for node in nodes if annotation.prediction_of(node) is predicted]
    return found[-1] if found else None
