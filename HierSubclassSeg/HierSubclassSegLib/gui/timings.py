"""How long models take on this computer: measured at each run, remembered in the application's settings."""

from __future__ import annotations

import json

import qt

from hierseg.bundle import Bundle

SETTING = "HierSubclassSeg/Seconds"
"""JSON by the bundle's id: seconds, milliliters of the volume, and the device of the last run."""
_KEPT = 20


def remember(bundle: Bundle, seconds: float, ml: float, device: str) -> None:
    """Keep what a run took."""
    known = _read()
    known.pop(bundle.id, None)
    known[bundle.id] = [round(seconds, 1), round(ml), device]
    kept = dict(list(known.items())[-_KEPT:])
    qt.QSettings().setValue(SETTING, json.dumps(kept))


def expected(bundle: Bundle, ml: float = 0.0) -> tuple[float, str] | None:
    """Seconds that a volume of this size will take, and on which device; None before the first run here."""
    found = _read().get(bundle.id)
    if not found:
        return None
    seconds, before, device = found
    # The work grows with the volume that is looked at; a fixed part remains.
    scale = min(10.0, max(0.3, ml / before)) if ml and before else 1.0
    return float(seconds) * scale, str(device)


def _read() -> dict[str, list]:
    try:
        known = json.loads(str(qt.QSettings().value(SETTING) or "{}"))
    except ValueError:
        return {}
    usable = known if isinstance(known, dict) else {}
    return {name: entry for name, entry in usable.items() if isinstance(entry, list) and len(entry) == 3}
