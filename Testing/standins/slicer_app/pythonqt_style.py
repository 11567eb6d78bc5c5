"""Makes PySide6 behave as PythonQt does, in the ways that a panel's code can tell apart.

Imitates ``PythonQtInstanceWrapper_getattro`` and ``_setattro`` of PythonQt's ``src/PythonQtInstanceWrapper.cpp``:

- a Qt property is a Python attribute (``button.text``, ``button.enabled = False``), so ``button.text()`` fails here as it
  does in Slicer, while ``button.setText("x")`` and ``button.isEnabled()`` work;
- reading an unknown name looks for a dynamic property, then for a child of that object name, then raises
  ``AttributeError``;
- writing one raises ``AttributeError`` on a C++ class and is allowed on a Python subclass; no method or signal can be
  overwritten on either;
- enums are integers and their values are reached without the enum's name (``Qt.Checked``);
- ``connect("clicked()", f)`` works beside ``clicked.connect(f)``.

The classes are changed in place, so that objects that Qt makes itself (the buttons of a box) behave alike.

Left out: PythonQt's conversions of arguments (it takes an integer for an enum and a list for a ``QStringList``), objects
destroyed behind Python's back, ``delete()``, ``help()``, and overloads told apart by PythonQt's rules.
"""

from __future__ import annotations

import ctypes
import enum
import inspect
import os
import sys
import types
from collections.abc import Callable
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# 0x01: Python enums; 0x02: they are integers; 0x04: their values are attributes of the class around them.
sys.pyside6_option_python_enum = 0x07  # type: ignore[attr-defined]

from PySide6 import QtCore, QtGui, QtWidgets  # noqa: E402

if sys.version_info < (3, 12):
    # PySide6 gives back a reference to None that it never took, at each call that returns None.  From Python 3.12 on
    # None lives forever; before, a process that makes some thousand calls ends in "deallocating None".
    ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40

MODULES = (QtCore, QtGui, QtWidgets)
_generic_setattr = ctypes.pythonapi.PyObject_GenericSetAttr
_generic_setattr.argtypes = [ctypes.py_object, ctypes.py_object, ctypes.py_object]
_generic_setattr.restype = ctypes.c_int


def cplusplus(cls: type) -> type:
    """Mark a stand-in as one of the application's C++ classes: its objects take no new attributes.

    A stand-in keeps its own state in the attribute ``_standin``.
    """
    cls._standin_cplusplus = cls  # type: ignore[attr-defined]
    return cls


def is_cplusplus(cls: type) -> bool:
    """Whether a class stands for one of C++, rather than being a subclass that somebody wrote in Python."""
    return cls.__module__.startswith(("PySide6.", "Shiboken")) or cls.__dict__.get("_standin_cplusplus") is cls


class QtProperty:
    """One Qt property as a Python attribute; asked of the class it is the plain method of that name, if there is one."""

    def __init__(self, name: str, getter: Callable[..., Any] | None, setter: str | None, writable: bool, plain: Any):
        self.name, self.getter, self.setter, self.writable, self.plain = name, getter, setter, writable, plain

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self.plain if self.plain is not None else self
        return self.getter(instance) if self.getter is not None else instance.property(self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        if not self.writable:
            raise AttributeError(f"Property '{self.name}' of {type(instance).__name__} object is not writable")
        setter = getattr(instance, self.setter, None) if self.setter else None
        try:
            accepted = setter(value) is not False if setter else instance.setProperty(self.name, value)
        except (TypeError, ValueError):
            accepted = False
        if not accepted:
            raise AttributeError(
                f"Property '{self.name}' does not accept an object of type {type(value).__name__} ({value!r})"
            )


class QtStaticSlot:
    """A static slot with a property's name, as QTimer's singleShot: PythonQt finds the slot first and keeps it."""

    def __init__(self, name: str, plain: Any):
        self.name, self.plain = name, plain

    def __get__(self, instance: Any, owner: type) -> Any:
        return self.plain

    def __set__(self, instance: Any, value: Any) -> None:
        raise AttributeError(f"Slot '{self.name}' can not be overwritten on {type(instance).__name__} object")


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _is_signal(attribute: Any) -> bool:
    # Not isinstance(): PySide6 6.12 drops a reference to False each time that it is asked.
    return type(attribute) is QtCore.Signal


def _is_method(attribute: Any) -> bool:
    return callable(attribute) and not isinstance(attribute, type) and not _is_signal(attribute)


def _own_property(cls: type, meta: Any) -> QtProperty | QtStaticSlot:
    name = meta.name()
    plain = getattr(cls, name, None)
    if name == "singleShot":
        return QtStaticSlot(name, plain)
    getter = next(
        (
            found
            for candidate in (name, "is" + _capital(name), "has" + _capital(name))
            if _is_method(found := getattr(cls, candidate, None))
            # A static method (QCoreApplication.applicationVersion) takes no object.
            and not isinstance(inspect.getattr_static(cls, candidate), staticmethod)
        ),
        None,
    )
    setter = "set" + _capital(name)
    return QtProperty(name, getter, setter if hasattr(cls, setter) else None, meta.isWritable(), plain)


def _make_properties(cls: type) -> None:
    """Replace the getters of a class by properties, those that it inherits and defines again included."""
    meta = cls.staticMetaObject  # type: ignore[attr-defined]
    made = {}
    for index in range(meta.propertyCount()):
        entry = meta.property(index)
        name = entry.name()
        if index >= meta.propertyOffset() or name in cls.__dict__:
            made[name] = _own_property(cls, entry)
    for name, attribute in made.items():
        setattr(cls, name, attribute)


def _static(cls: type, name: str) -> tuple[type, Any] | None:
    for base in cls.__mro__:
        if name in base.__dict__:
            return base, base.__dict__[name]
    return None


def _write(self: Any, name: str, value: Any) -> None:
    """What PythonQt does on ``self.name = value``."""
    if type(value) is QtCore.SignalInstance:
        # PySide6 itself puts the signals of an object that Qt made (a menu's action) onto it.
        _generic_setattr(self, name, value)
        return
    cls = type(self)
    found = _static(cls, name)
    if found is not None:
        base, attribute = found
        if hasattr(attribute, "__set__"):
            attribute.__set__(self, value)
            return
        if is_cplusplus(base) and not name.startswith("__"):
            kind = "Signal" if _is_signal(attribute) else "Slot"
            raise AttributeError(f"{kind} '{name}' can not be overwritten on {cls.__name__} object")
    elif isinstance(self, QtCore.QObject) and name in _dynamic_names(self):
        self.setProperty(name, value)
        return
    if is_cplusplus(cls) and name != "_standin" and not name.startswith("__"):
        raise AttributeError(
            f"'{name}' does not exist on {cls.__name__} and creating new attributes on C++ objects is not allowed"
        )
    _generic_setattr(self, name, value)


def _dynamic_names(self: Any) -> list[str]:
    return [bytes(name.data()).decode() for name in self.dynamicPropertyNames()]


def _missing(self: Any, name: str) -> Any:
    """What PythonQt does on reading a name that the class does not have."""
    if not name.startswith("_"):
        if name in _dynamic_names(self):
            return self.property(name)
        for child in self.children():
            if child.objectName == name:
                return child
    raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")


def _signal(self: Any, signature: str) -> Any:
    name = signature.split("(", maxsplit=1)[0]
    found = _static(type(self), name)
    if found is None or not _is_signal(found[1]):
        raise AttributeError(f"{type(self).__name__} has no signal named '{signature}'")
    signal = getattr(self, name)
    arguments = signature[len(name) + 1 : -1].strip()
    if not is_cplusplus(found[0]) or "_standin_cplusplus" in found[0].__dict__:
        return signal
    normalized = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    if self.metaObject().indexOfSignal(normalized) < 0:
        raise AttributeError(f"{type(self).__name__} has no signal '{signature}'")
    try:
        return signal[arguments] if arguments else signal
    except (KeyError, IndexError, TypeError):
        return signal


def _slot(receiver: Any, method: str | None) -> Callable[..., Any]:
    return getattr(receiver, method.split("(", maxsplit=1)[0]) if method else receiver  # type: ignore[no-any-return]


def _connect(self: Any, signature: str, receiver: Any, method: str | None = None) -> bool:
    """``sender.connect("clicked()", f)`` and ``sender.connect("clicked()", other, "close()")``."""
    _signal(self, signature).connect(_slot(receiver, method))
    return True


def _disconnect(self: Any, signature: str, receiver: Any, method: str | None = None) -> bool:
    _signal(self, signature).disconnect(_slot(receiver, method))
    return True


def _reading(original: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """PySide6 answers ``connect`` and ``disconnect`` of an object before it looks into the class."""

    def read(self: Any, name: str) -> Any:
        if name == "connect":
            return types.MethodType(_connect, self)
        if name == "disconnect":
            return types.MethodType(_disconnect, self)
        return original(self, name)

    return read


def _first_of(function: Callable[..., Any]) -> staticmethod:
    """PythonQt returns the file names alone; PySide6 a pair of them and the filter."""
    return staticmethod(lambda *arguments, **named: function(*arguments, **named)[0])


def _classes() -> list[type]:
    # PySide6 makes its classes when they are first asked for: vars(module) would miss most.
    everything = (getattr(module, name) for module in MODULES for name in dir(module))
    found = {value for value in everything if isinstance(value, type)}
    return sorted((c for c in found if c.__module__.startswith("PySide6")), key=lambda c: len(c.__mro__))


def _button_box() -> None:
    """``QDialogButtonBox(Ok | Cancel)``: PythonQt takes the number for an orientation, and there is no button."""
    original = QtWidgets.QDialogButtonBox.__init__

    def make(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *[argument for argument in arguments if not isinstance(argument, int)], **named)

    QtWidgets.QDialogButtonBox.__init__ = make  # type: ignore[method-assign]


def apply() -> None:
    """Change the classes of PySide6, once a process."""
    if getattr(QtCore.QObject, "_pythonqt_style", False):
        return
    classes = _classes()
    # Subclasses first: a class's getters are looked up along its bases, which must still be PySide6's own.
    for cls in reversed(classes):
        if "staticMetaObject" in cls.__dict__ and issubclass(cls, QtCore.QObject):
            _make_properties(cls)
    for cls in classes:
        if not issubclass(cls, (enum.Enum, BaseException)) and cls is not QtCore.Signal:
            cls.__setattr__ = _write  # type: ignore[assignment]
        if "__getattribute__" in cls.__dict__ and issubclass(cls, QtCore.QObject):
            cls.__getattribute__ = _reading(cls.__dict__["__getattribute__"])  # type: ignore[method-assign]
    qobject: Any = QtCore.QObject
    qobject.__getattr__ = _missing
    qobject.className = lambda self: self.metaObject().className()
    # PythonQt calls objectName "name" as well, see the uses of `.name` in Slicer's own Python code.
    qobject.name = QtProperty("objectName", QtCore.QObject.objectName, "setObjectName", True, None)
    for name in ("getOpenFileName", "getOpenFileNames", "getSaveFileName"):
        setattr(QtWidgets.QFileDialog, name, _first_of(getattr(QtWidgets.QFileDialog, name)))
    _button_box()
    # Qt 6 has it in a place that PythonQt does not wrap.
    del QtGui.QAction.menu
    qobject._pythonqt_style = True


apply()
