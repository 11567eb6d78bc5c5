"""Words for cases: what they hold, what a save will write."""

from __future__ import annotations

from slicer.i18n import tr as _

from HierSubclassSegLib.gui import texts
from HierSubclassSegLib.scene.case_shares import Share
from HierSubclassSegLib.scene.export_summary import ExportSummary
from HierSubclassSegLib.scene.status import Status


def percent(part: int, whole: int) -> str:
    """A share for people: what is there is never 0, what is missing never 100."""
    if whole <= 0 or part <= 0:
        return "0"
    value = 100.0 * part / whole
    if value < 1.0:
        return "<1"
    return f"{min(value, 99.0) if part < whole else 100.0:.0f}"


def status(value: Status | None) -> str:
    """Slicer's words for a status."""
    words = {
        Status.NOT_STARTED: _("Not started"),
        Status.IN_PROGRESS: _("In progress"),
        Status.COMPLETED: _("Completed"),
        Status.FLAGGED: _("Flagged"),
    }
    return words.get(value, "") if value is not None else ""


def share(found: Share) -> str:
    """All of a case's share in milliliters."""
    parts = (
        (_("Fine"), found.fine),
        (_("Coarse"), found.coarse),
        (_("Unlabelled"), found.unlabelled),
        (_("Background"), found.background),
    )
    return "\n".join(f"{name}: {texts.volume(count * found.voxel_ml) or '0'} ml" for name, count in parts)


def slice_count(count: int) -> str:
    """A number of slices."""
    return _("1 slice") if count == 1 else _("{count} slices").format(count=count)


def will_be_saved(summary: ExportSummary) -> str:
    """What a save will write, in a line; then what a user should know."""
    parts = [
        words.format(ml=texts.volume(ml), slices=slice_count(slices))
        for words, ml, slices in (
            (_("fine {ml} ml in {slices}"), summary.fine_ml - summary.background_ml, summary.structure_slices),
            (_("coarse {ml} ml in {slices}"), summary.coarse_ml, summary.coarse_slices),
            (_("unlabelled {ml} ml in {slices}"), summary.unlabelled_ml, summary.unlabelled_slices),
        )
        if slices
    ]
    if summary.background_ml:
        parts.append(_("background {ml} ml").format(ml=texts.volume(summary.background_ml)))
    return " · ".join(parts) or _("nothing")


def nodes(summary: ExportSummary) -> str:
    """What a save will write of each node, a line each."""
    lines = [
        (_("{name}: {ml} ml in {slices}") if node.fine else _("{name}: {ml} ml in {slices}, coarse")).format(
            name=node.path.split("/")[-1], ml=texts.volume(node.ml), slices=slice_count(node.slices)
        )
        for node in summary.nodes
    ]
    return "\n".join(lines)
