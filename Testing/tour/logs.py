"""What Slicer wrote while it ran: tracebacks, and warnings that are not Slicer's own.  Runs outside Slicer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

# Slicer's own, seen without the module as well; each with what it is about.
KNOWN = tuple(
    re.compile(text)
    for text in (
        r"QFormBuilder was unable to create a custom widget of the class '(ctk|qMRML)",  # no designer plugins in this build
        r"propagateSizeHints",  # windows without a window manager
        r"XDG_RUNTIME_DIR|dbus|D-Bus|libEGL|MESA|libGL|llvmpipe|AT-SPI|accessib|xkbcommon|xcb",  # no desktop
        r"Populating font family aliases",  # macOS, fonts
        r"QStandardPaths: ",
        r"Failed to (load|import) (DICOM|SimpleITK)",  # modules that this build lacks
        r"FileFormatComboBox|currentIndexChanged\(const QString|qMRMLSegmentationFileExportWidget",  # Segmentations, Qt 6
        # The Segment Editor's table asks a timer for its filter, and has let go of its segmentation when it fires.
        r"qMRMLSegmentsTableView::updateMRMLFromFilterParameters\(\) Invalid segmentation node",
    )
)
# A line of Slicer's log file: [LEVEL][Origin] time [category] (file:line) - text
ENTRY = re.compile(r"^\[(?P<level>[A-Z]+)\]\[(?P<origin>[^\]]+)\] \S+ \S+ \[[^\]]*\] \([^)]*\) - (?P<text>.*)$")
LOUD = ("WARNING", "ERROR", "CRITICAL", "FATAL")
TRACEBACK = "Traceback (most recent call last)"
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
    tracebacks = terminal.count(TRACEBACK)
    for level, origin, text in _entries(after):
        if tracebacks and origin == "Stream":
            # Slicer logs a traceback line by line; it is told below, as one.
            continue
        expected = any(pattern.search(text) for pattern in KNOWN) or any(part in text for part in allowed)
        if level in LOUD and text.strip() and not expected:
            found[f"[{level}] {text.strip()}"] += 1
    if tracebacks:
        found[f"{tracebacks} Python tracebacks; the first:\n{_first_traceback(terminal)}"] += 1
    for sign in ("Segmentation fault", "core dumped", "terminate called", "QThread: Destroyed while"):
        if sign in terminal:
            found[sign] += 1
    return [f"{text[:1200]}" + (f" (× {count})" if count > 1 else "") for text, count in found.items()]


def _entries(log: str) -> list[tuple[str, str, str]]:
    entries: list[tuple[str, str, str]] = []
    for line in log.splitlines():
        match = ENTRY.match(line)
        if match:
            entries.append((match["level"], match["origin"], match["text"]))
        elif entries:
            level, origin, text = entries[-1]
            entries[-1] = (level, origin, f"{text}\n{line}")
    return entries


def _first_traceback(text: str) -> str:
    """The files, lines and the error of the first traceback."""
    kept = []
    for line in text.partition(TRACEBACK)[2].splitlines()[1:]:
        if line.startswith("  File") or not line.startswith(" "):
            kept.append(line.strip())
        if line and not line.startswith(" "):
            break
    return "\n".join(kept)
