"""Typed parameter nodes bound to widgets, as the module ``slicer.parameterNodeWrapper``.

Imitates ``Base/Python/slicer/parameterNodeWrapper/`` of Slicer (``wrapper.py``, ``serializers.py``, ``validators.py``,
``guiConnectors.py``): how each type is written into a ``vtkMRMLScriptedModuleNode``, what is refused, when the node and the
widgets follow each other.  Types: bool, int, float, str, paths, enums, MRML nodes, Optional of those, ``list`` of
plain values.

Left out: parameter packs, tuples, dictionaries, colors, ranges, observed lists (a list that is read is a copy), caching,
widgets made from types, and connectors for widgets that ``ctk`` here does not have.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import pathlib
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import ctk
import qt
import slicer
import vtk

__all__ = [
    "Choice",
    "Default",
    "Maximum",
    "Minimum",
    "WithinRange",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]

SlicerParameterNamePropertyName = "SlicerParameterName"


@dataclasses.dataclass
class Default:
    """The value of a parameter that was never set."""

    value: Any


@dataclasses.dataclass
class WithinRange:
    """A number between two bounds, both allowed."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Must be within range [{self.minimum}, {self.maximum}], but is {value}")


@dataclasses.dataclass
class Minimum:
    """A number that is not below a bound."""

    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Must be greater than or equal to {self.minimum}, but is {value}")


@dataclasses.dataclass
class Maximum:
    """A number that is not above a bound."""

    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Must be less than or equal to {self.maximum}, but is {value}")


class Choice:
    """One of some values."""

    def __init__(self, choices: list[Any]) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, but is {value}")


class _Parameter:
    """One typed value in the node."""

    def __init__(self, name: str, hint: Any, owner: type) -> None:
        self.name = name
        annotations: tuple[Any, ...] = ()
        if typing.get_origin(hint) is Annotated:
            hint, *rest = typing.get_args(hint)
            annotations = tuple(rest)
        self.annotations = annotations
        self.optional = False
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
            self.optional = len(kinds) < len(typing.get_args(hint))
            if len(kinds) != 1:
                raise TypeError(f"Unable to create serializer for {owner} member {name}")
            hint = kinds[0]
        self.kind = typing.get_origin(hint) or hint
        self.is_node = isinstance(self.kind, type) and issubclass(self.kind, slicer.vtkMRMLNode)
        if not (self.is_node or self.kind in _PLAIN or self.kind is list or issubclass(self.kind, enum.Enum)):
            raise TypeError(f"Unable to create serializer for {owner} member {name}")
        given = [a.value for a in annotations if isinstance(a, Default)]
        self.default = getattr(owner, name, given[0] if given else self._zero())

    def _zero(self) -> Any:
        if self.optional or self.is_node:
            return None
        return next(iter(self.kind)) if issubclass(self.kind, enum.Enum) else self.kind()

    def read(self, node: Any) -> Any:
        if not node.HasParameter(self.name):
            self.write(node, self.default)
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.optional and text == "None":
            return None
        if self.kind is bool:
            return text == "True"
        if self.kind is list:
            return json.loads(text)
        return self.kind[text] if issubclass(self.kind, enum.Enum) else self.kind(text)

    def write(self, node: Any, value: Any) -> None:
        self._check(value)
        if self.is_node:
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        elif self.kind is list and value is not None:
            node.SetParameter(self.name, json.dumps(value))
        elif isinstance(value, enum.Enum):
            node.SetParameter(self.name, value.name)
        else:
            node.SetParameter(self.name, str(value))

    def _check(self, value: Any) -> None:
        if value is None:
            if not (self.optional or self.is_node):
                raise ValueError(f"{self.name} must not be None")
            return
        allowed = (int, float) if self.kind is float else self.kind
        if not isinstance(value, allowed):
            raise TypeError(f"{self.name} must be of type {self.kind.__name__}, but is {type(value).__name__}")
        for annotation in self.annotations:
            if hasattr(annotation, "validate"):
                annotation.validate(value)

    def find(self, kind: type) -> Any:
        return next((a for a in self.annotations if isinstance(a, kind)), None)


_PLAIN = (bool, int, float, str, pathlib.Path, pathlib.PurePath)


class _Connector:
    """One widget: how its value is read and written, and its signal of change."""

    def __init__(self, widget: Any, signal: Any, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.widget, self.read, self.write, self._signal = widget, read, write, signal
        self._callback: Callable[[], None] | None = None

    def on_changed(self, callback: Callable[[], None] | None) -> None:
        if self._callback is not None and self._signal is not None:
            self._signal.disconnect(self._changed)
        self._callback = callback
        if callback is not None and self._signal is not None:
            self._signal.connect(self._changed)

    def _changed(self, *_: Any) -> None:
        if self._callback is not None:
            self._callback()


def _attribute(widget: Any, name: str, signal: Any, kind: Any = lambda value: value) -> _Connector:
    return _Connector(widget, signal, lambda: kind(getattr(widget, name)), lambda value: setattr(widget, name, value))


def _set_bounds(widget: Any, parameter: _Parameter) -> None:
    within = parameter.find(WithinRange)
    low, high = within or parameter.find(Minimum), within or parameter.find(Maximum)
    whole = isinstance(widget, qt.QSpinBox)
    if type(widget) in (qt.QSlider, ctk.ctkSliderWidget) and (low is None or high is None):
        raise RuntimeError("Cannot have a connection to a slider where the number is unbounded.")
    least, most = (-(2**31), 2**31 - 1) if whole else (float("-inf"), float("inf"))
    widget.minimum = low.minimum if low is not None else least
    widget.maximum = high.maximum if high is not None else most


def _connector(widget: Any, parameter: _Parameter) -> _Connector:
    kind, cls = parameter.kind, type(widget)
    if kind is bool and cls in (qt.QCheckBox, ctk.ctkCheckBox):
        return _attribute(widget, "checked", widget.stateChanged)
    if kind is bool and cls is qt.QPushButton:
        widget.checkable = True
        return _attribute(widget, "checked", widget.toggled)
    numbers = {
        int: (qt.QSlider, qt.QSpinBox, qt.QDoubleSpinBox, ctk.ctkSliderWidget, ctk.ctkDoubleSpinBox),
        float: (qt.QDoubleSpinBox, ctk.ctkSliderWidget, ctk.ctkDoubleSpinBox),
    }
    if cls in numbers.get(kind, ()):
        _set_bounds(widget, parameter)
        if kind is int and cls not in (qt.QSlider, qt.QSpinBox):
            widget.decimals = 0
        return _attribute(widget, "value", widget.valueChanged, kind)
    if cls in (qt.QComboBox, ctk.ctkComboBox):
        return _combo(widget, parameter)
    if kind is str and cls is qt.QLineEdit:

        def write(value: str) -> None:
            if value != widget.text:
                widget.text = value

        return _Connector(widget, widget.textChanged, lambda: widget.text, write)
    if kind is str and cls is qt.QLabel:
        return _attribute(widget, "text", None)
    if kind is str and cls is qt.QTextEdit:
        return _Connector(widget, widget.textChanged, widget.toPlainText, widget.setPlainText)
    if kind in (pathlib.Path, pathlib.PurePath) and cls in (ctk.ctkPathLineEdit, ctk.ctkDirectoryButton):
        name = "currentPath" if cls is ctk.ctkPathLineEdit else "directory"
        signal = getattr(widget, f"{name}Changed")
        return _Connector(
            widget, signal, lambda: kind(getattr(widget, name)), lambda value: setattr(widget, name, str(value))
        )
    if parameter.is_node and cls is slicer.qMRMLNodeComboBox:
        widget.nodeTypes = [kind.__name__]
        return _Connector(widget, widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to widget type '{cls}'.")


def _combo(widget: Any, parameter: _Parameter) -> _Connector:
    if isinstance(parameter.kind, type) and issubclass(parameter.kind, enum.Enum):
        values = list(parameter.kind)
        labels = [value.label() if hasattr(value, "label") else value.name for value in values]
    else:
        choice = parameter.find(Choice)
        if choice is None:
            raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
        values = list(choice.choices)
        labels = [str(value) for value in values]
    widget.clear()
    widget.addItems(labels)
    return _Connector(
        widget,
        widget.currentIndexChanged,
        lambda: values[widget.currentIndex],
        lambda value: setattr(widget, "currentIndex", values.index(value)),
    )


class _Wrapper:
    """The methods that the decorator gives to a class."""

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        self.parameterNode = parameterNode
        self._connected: dict[int, tuple[dict[str, _Connector], int]] = {}
        self._next_tag = 0
        self._updating = False
        for parameter in self.allParameters.values():  # type: ignore[attr-defined]
            if not parameterNode.HasParameter(parameter.name):
                parameter.write(parameterNode, parameter.default)

    def _named(self, name: str) -> _Parameter:
        if name not in self.allParameters:  # type: ignore[attr-defined]
            raise ValueError(f"Cannot find a param with the given name: {name}")
        return self.allParameters[name]  # type: ignore[attr-defined, no-any-return]

    def getValue(self, name: str) -> Any:
        return self._named(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._named(name).write(self.parameterNode, value)

    def default(self, name: str) -> Any:
        return Default(self._named(name).default)

    def connectGui(self, gui: Any) -> int:
        widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "findChildren") else gui.__dict__.values()
        found = {w.property(SlicerParameterNamePropertyName): w for w in widgets}
        return self.connectParametersToGui({name: widget for name, widget in found.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        connectors = {name: _connector(widget, self._named(name)) for name, widget in mapping.items()}
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.on_changed(lambda name=name, connector=connector: self._from_gui(name, connector))
        self._connected[tag] = (connectors, self.AddObserver(vtk.vtkCommand.ModifiedEvent, self._to_gui))
        return tag

    def disconnectGui(self, tag: int) -> None:
        connectors, observer = self._connected.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.on_changed(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def _from_gui(self, name: str, connector: _Connector) -> None:
        if not self._updating:
            self.setValue(name, connector.read())

    def _to_gui(self, *_: Any) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connectors, _observer in list(self._connected.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating = False

    def StartModify(self) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self, before: Any) -> Any:
        return self.parameterNode.EndModify(before)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)  # type: ignore[no-any-return]

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def _typed(parameter: _Parameter) -> property:
    return property(
        lambda self: parameter.read(self.parameterNode), lambda self, value: parameter.write(self.parameterNode, value)
    )


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """The decorator, with or without brackets."""

    def wrap(cls: type) -> type:
        hints = typing.get_type_hints(cls, include_extras=True)
        parameters = {name: _Parameter(name, hint, cls) for name, hint in hints.items()}
        for name, member in vars(_Wrapper).items():
            if name != "__init__" and callable(member):
                if hasattr(cls, name) and not name.startswith("_"):
                    raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
                setattr(cls, name, member)
        cls.__init__ = _Wrapper.__init__  # type: ignore[misc]
        cls.allParameters = parameters  # type: ignore[attr-defined]
        cls._is_parameter_node_wrapper = True  # type: ignore[attr-defined]
        for parameter in parameters.values():
            setattr(cls, parameter.name, _typed(parameter))
        return cls

    return wrap if classtype is None else wrap(classtype)
