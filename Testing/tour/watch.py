"""How long our own calls hold the GUI thread, seen from inside Slicer.

Every entry from Slicer (an event, a timer, a click) into the module's code is timed until it returns; within it, calls
into compiled code that take long are named, so that Slicer's own share can be told apart.  Beside it a heartbeat: the
longest time in which the event loop did not run, whoever held it.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any

OURS = ("HierSubclassSegLib", "HierSubclassSeg.py", "/hierseg/")
TOOL = 4
LONG = 0.01
_SHORT = 0.001
_ENOUGH = 3
# Slicer's own input and output, surfaces and Segment Editor: excepted by the quality bar, and reported.
EXCEPTED = (
    "qMRMLSegmentEditorWidget", "setSegmentationNode", "setSourceVolumeNode", "setActiveEffect", "setMRMLScene", "undo", "redo", "saveStateForUndo",
    "SaveStateForUndo", "Undo", "Redo", "ModifySegmentByLabelmap", "UpdateMaskLabelmap", "UpdateReferenceGeometryImage",
    "WriteData", "ReadData", "WriteToMRB", "ReadFromMRB", "CreateRepresentation", "CreateClosedSurfaceRepresentation",
)  # fmt: skip


@dataclass
class Entry:
    """One call of ours.

    Attributes:
        name: of the function that Slicer called.
        seconds: until it returned; ``cpu`` is what this thread computed meanwhile (other programs take their share).
        native: seconds in long calls into compiled code, by name.
        slicer: those of them that are methods of Slicer's, VTK's or Qt's objects, without ours that they call back into.
    """

    name: str
    seconds: float = 0.0
    cpu: float = 0.0
    native: dict[str, float] = field(default_factory=dict)
    slicer: dict[str, float] = field(default_factory=dict)

    @property
    def own(self) -> float:
        """Seconds of the thread without what the bar excepts."""
        return self.cpu - sum(seconds for name, seconds in self.slicer.items() if name in EXCEPTED)

    @property
    def ours(self) -> float:
        """Seconds of the thread without any long call of Slicer's."""
        return self.cpu - sum(self.slicer.values())


class Watch:
    """Times entries while it is used as a context; see the module's docstring."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._active: tuple[Any, float, float, Entry] | None = None
        self._calls: dict[Any, tuple[float, int, bool]] = {}
        self._short: dict[Any, int] = {}
        self._within = 0
        self._starts = 0
        self._thread = threading.get_ident()
        self._seen: set[Any] = set()

    def __enter__(self) -> Watch:  # noqa: PYI034
        monitoring = sys.monitoring
        monitoring.use_tool_id(TOOL, "hierseg watch")
        events = monitoring.events
        for event, called in (
            (events.PY_START, self._start),
            (events.PY_RETURN, self._return),
            (events.PY_UNWIND, self._unwind),
            (events.CALL, self._call),
            (events.C_RETURN, self._c_return),
            (events.C_RAISE, self._c_return),
        ):
            monitoring.register_callback(TOOL, event, called)
        monitoring.set_events(TOOL, events.PY_START | events.PY_UNWIND)
        monitoring.restart_events()
        return self

    def __exit__(self, *_error: object) -> None:
        sys.monitoring.set_events(TOOL, 0)
        for code in self._seen:
            sys.monitoring.set_local_events(TOOL, code, 0)
        sys.monitoring.free_tool_id(TOOL)

    # -- what Python tells ------------------------------------------------------------------------------------------

    def _start(self, code: Any, _offset: int) -> Any:
        if not any(part in code.co_filename for part in OURS):
            return sys.monitoring.DISABLE
        if threading.get_ident() != self._thread:
            return None
        if code not in self._seen:
            self._seen.add(code)
            events = sys.monitoring.events
            sys.monitoring.set_local_events(TOOL, code, events.PY_RETURN | events.CALL)
        self._starts += 1
        if self._active is None:
            frame = sys._getframe(1)
            self._active = (frame, time.perf_counter(), time.thread_time(), Entry(code.co_qualname))
        return None

    def _return(self, _code: Any, _offset: int, _value: Any) -> None:
        self._end(sys._getframe(1))

    def _unwind(self, _code: Any, _offset: int, _error: Any) -> None:
        self._end(sys._getframe(1))

    def _end(self, frame: Any) -> None:
        if self._active is not None and self._active[0] is frame:
            _frame, begin, cpu, entry = self._active
            entry.seconds, entry.cpu = time.perf_counter() - begin, time.thread_time() - cpu
            self._active = None
            if entry.seconds > LONG:
                self.entries.append(entry)

    def _call(self, code: Any, offset: int, called: Any, _first: Any) -> Any:
        if threading.get_ident() != self._thread:
            return None
        # Watching costs as much as a short call does: where calls were short, nobody looks any more.
        if isinstance(called, FunctionType | MethodType) or self._short.get((code, offset), 0) >= _ENOUGH:
            return sys.monitoring.DISABLE
        excepted = _name(called) in EXCEPTED
        self._calls[code, offset] = time.thread_time(), self._starts, excepted
        self._within += excepted
        return None

    def _c_return(self, code: Any, offset: int, called: Any, _first: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        begin, starts, excepted = self._calls.pop((code, offset), (0.0, 0, False))
        self._within -= excepted
        took = time.thread_time() - begin
        if begin and took < _SHORT:
            self._short[code, offset] = self._short.get((code, offset), 0) + 1
        if not begin or self._active is None or took <= LONG:
            return
        name, entry = _name(called), self._active[3]
        entry.native[name] = entry.native.get(name, 0.0) + took
        # What calls back into our code is not Slicer's alone.
        if not self._within and (excepted or (starts == self._starts and _is_slicers(called))):
            entry.slicer[name] = entry.slicer.get(name, 0.0) + took

    # -- what is reported -------------------------------------------------------------------------------------------

    def longest(self, number: int = 5) -> list[dict[str, Any]]:
        """The entries that held the thread longest, without what is excepted."""
        worst = sorted(self.entries, key=lambda entry: -entry.own)[:number]
        return [
            {
                "call": entry.name,
                "ours ms": round(1000 * entry.ours, 1),
                "own ms": round(1000 * entry.own, 1),
                "cpu ms": round(1000 * entry.cpu, 1),
                "wall ms": round(1000 * entry.seconds, 1),
                "native ms": {name: round(1000 * took, 1) for name, took in entry.native.items()},
            }
            for entry in worst
        ]


def _name(called: Any) -> str:
    return getattr(called, "__name__", None) or str(called)[:60]


def _is_slicers(called: Any) -> bool:
    """Whether a method of an object that Slicer, VTK or Qt has made."""
    owner = getattr(called, "__self__", None)
    return owner is not None and type(owner).__module__.startswith(("vtk", "MRML", "PythonQt", "Slicer"))


class Heartbeat:
    """The longest time in which the event loop did not come round, while used as a context."""

    def __init__(self) -> None:
        import qt

        self.longest = 0.0
        self._last = 0.0
        self._timer = qt.QTimer()
        self._timer.setInterval(5)
        self._timer.timeout.connect(self._beat)

    def __enter__(self) -> Heartbeat:  # noqa: PYI034
        self._last = time.perf_counter()
        self._timer.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.stop()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now
