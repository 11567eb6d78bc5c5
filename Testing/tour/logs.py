"""What Slicer wrote while it ran: tracebacks, and warnings that are not Slicer's own.  Runs outside Slicer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

# Slicer's own, seen without the module as well; each with what it is about.
KNOWN = tuple(
    re.compile(text)
    for text in (
        r"QFormBuilder was unable to create a custom widget of the class 'ctk",  # no designer plugins in this build
        r"propagateSizeHints",  # windows without a window manager
        r"XDG_RUNTIME_DIR|dbus|D-Bus|libEGL|MESA|libGL|llvmpipe|AT-SPI|accessib|xkbcommon|xcb",  # no desktop
        r"Populating font family aliases",  # macOS, fonts
        r"QStandardPaths: ",
        r"Failed to (load|import) (DICOM|SimpleITK)",  # modules that this build lacks
        # vtkMRMLScene, when a scene is closed while an own node is created in answer
        r"Generic Warning: In .*vtkOpenGL",
    )
)
# A line of Slicer's log file: [LEVEL][Origin] time [category] (file:line) - text
ENTRY = re.compile(r"^\[(?P<level>[A-Z]+)\]\[(?P<origin>[^\]]+)\] \S+ \S+ \[[^\]]*\] \([^)]*\) - (?P<text>.*)$")
LOUD = ("WARNING", "ERROR", "CRITICAL", "FATAL")
# Before this line the module was not open yet: what stands there is Slicer's.
OPENED = "HierSubclassSeg tour begins"


def findings(log: str, terminal: str, allowed: Iterable[str] = ()) -> list[str]:
    """What must not be there.

    Args:
        log: the content of Slicer's log file.
        terminal: what Slicer wrote to the terminal (holds what comes after the log file was closed).
        allowed: parts of messages that the script that ran provokes on purpose.

    Returns:
        a line for each kind of message, with how often it came.
    """
    found: Counter[str] = Counter()
    _before, _mark, after = log.rpartition(OPENED) if OPENED in log else ("", "", log)
    for level, text in _entries(after):
        expected = any(pattern.search(text) for pattern in KNOWN) or any(part in text for part in allowed)
        if level in LOUD and text.strip() and not expected:
            found[f"[{level}] {text.strip()}"] += 1
    for name, text in (("log", log), ("terminal", terminal)):
        count = text.count("Traceback (most recent call last)")
        if count:
            found[f"{count} Python tracebacks in the {name}: {_last_line(text)}"] += 1
    for sign in ("Segmentation fault", "core dumped", "terminate called", "QThread: Destroyed while"):
        if sign in terminal:
            found[sign] += 1
    return [f"{text[:600]}" + (f" (× {count})" if count > 1 else "") for text, count in found.items()]


def _entries(log: str) -> list[tuple[str, str]]:
    entries: list[tuple[str, str]] = []
    for line in log.splitlines():
        match = ENTRY.match(line)
        if match:
            entries.append((match["level"], match["text"]))
        elif entries:
            level, text = entries[-1]
            entries[-1] = (level, f"{text}\n{line}")
    return entries


def _last_line(text: str) -> str:
    """The error's own line of the first traceback."""
    after = text.partition("Traceback (most recent call last)")[2]
    for line in after.splitlines()[1:]:
        bare = ENTRY.sub(lambda match: match["text"], line)
        if bare and not bare.startswith((" ", "\t")):
            return bare
    return ""
