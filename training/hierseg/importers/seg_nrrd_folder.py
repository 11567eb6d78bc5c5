"""A folder of images with segmentations that 3D Slicer saved beside them.

::

    scan1.nrrd  scan1.seg.nrrd            or  anna/T1.nrrd  anna/FLAIR.nii.gz  anna/Segmentation.seg.nrrd
    scan2_T1.nii.gz  scan2_FLAIR.nii.gz  scan2.seg.nrrd

A case is one ``.seg.nrrd``.  Its images are named like it, with ``_<channel>`` at the end if there are several
channels; in a folder with a single segmentation they are named like the channels, or there is just one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hierseg.errors import ConfigError, DatasetError, HiersegError
from hierseg.imageio import ITK_ENDINGS, NIFTI_ENDINGS, image_stem
from hierseg.importers.label_trees import tree_of
from hierseg.importers.seg_nrrd import Header, SegNrrd, read_seg_header
from hierseg.importers.source import Picture, Refused, Source, SourceCase, case_id, grouping
from hierseg.labeltree import LabelTree

ENDING = ".seg.nrrd"
_IMAGES = (*NIFTI_ENDINGS, *ITK_ENDINGS)


def seg_nrrd_source(
    folder: str | Path,
    tree: LabelTree | None = None,
    channels: Sequence[str] = ("image",),
    group: str | None = None,
    complete: bool = False,
) -> Source:
    """Look through a folder of images and segmentations.

    Args:
        folder: with the files, or with one folder a case.
        tree: which nodes the segments are; default: the tree in the first file that has one, else a flat tree of
            the names of all segments.
        channels: names of the channels, in order.
        group: a regular expression that finds a case's group (patient) in its name; None: each case is its own.
        complete: whether everything was segmented: what no segment covers is background.

    Raises:
        DatasetError: there is no segmentation.
        LabelTreeError: the names of the segments make no tree.
        ConfigError: ``group`` is no regular expression, or there is no channel.
    """
    folder = Path(folder)
    if not channels or len({channel.lower() for channel in channels}) != len(channels):
        raise ConfigError(f"--channels is {', '.join(channels)!r}; give one name a channel, all different.")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder; give the folder that holds the .seg.nrrd files.")
    group_of = grouping(group)
    found: list[tuple[str, Path, tuple[Picture, ...]]] = []
    refused: list[Refused] = []
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        segmentations = sorted(path for path in place.iterdir() if path.name.lower().endswith(ENDING))
        for path in segmentations:
            name = path.name[: -len(ENDING)]
            pictures = _pictures(place, name, channels, single=len(segmentations) == 1)
            name = place.name if place != folder and len(segmentations) == 1 else name
            if isinstance(pictures, str):
                refused.append(Refused(name, f"{path}: {pictures}"))
            elif any(case_id(name).lower() == case_id(other).lower() for other, _, _ in found):
                refused.append(
                    Refused(name, f"{path}: there is another case whose id is '{case_id(name)}'; rename one.")
                )
            else:
                found.append((name, path, pictures))
    if not found and not refused:
        raise DatasetError(f"{folder}: there is no {ENDING} file in it; save the segmentations there from Slicer.")
    headers: dict[Path, Header] = {}
    cases = []
    for name, path, pictures in found:
        try:
            headers[path] = read_seg_header(path)
        except HiersegError as error:
            refused.append(Refused(name, error.sentence))
            continue
        cases.append(SourceCase(case_id(name), pictures, SegNrrd(path, complete), group=group_of(name)))
    if tree is None and not headers:
        raise DatasetError(f"{folder}: none of its segmentations can be taken; the first one: {refused[0].reason}")
    tree, notes = _tree(tree, headers, folder, complete)
    return Source("seg-nrrd", folder.resolve().name, folder, tuple(channels), tree, tuple(cases), tuple(refused), notes)


def _pictures(place: Path, name: str, channels: Sequence[str], single: bool) -> tuple[Picture, ...] | str:
    """The image of each channel, or half a sentence on what is missing."""
    images = [
        path
        for path in sorted(place.iterdir())
        if path.name.lower().endswith(_IMAGES) and not path.name.lower().endswith(ENDING) and path.name[0] != "."
    ]
    found = []
    for channel in channels:
        wanted = [f"{name}_{channel}"] + ([name] if len(channels) == 1 else []) + ([channel] if single else [])
        fitting = [path for path in images if image_stem(path).lower() in {other.lower() for other in wanted}]
        if not fitting and single and len(channels) == 1:
            fitting = images
        if len(fitting) != 1:
            what = "there is no image" if not fitting else f"there are {len(fitting)} images"
            return f"{what} of the channel '{channel}' beside it; name one {name}_{channel}.nii.gz."
        found.append(Picture(fitting[0]))
    return tuple(found)


def _tree(
    tree: LabelTree | None, headers: dict[Path, Header], folder: Path, complete: bool
) -> tuple[LabelTree, tuple[str, ...]]:
    if tree is not None:
        return tree, ()
    stored = {path: found for path, header in headers.items() if (found := header.tree) is not None}
    first = next(iter(stored.values()), None)
    if first is not None:
        other = [path.name for path, found in stored.items() if found != first]
        note = f"The label tree is '{first.fingerprint}'; {', '.join(other[:5])} carry another one, matched by paths."
        return first, (note,) if other else ()
    names = list(dict.fromkeys(segment.name for header in headers.values() for segment in header.segments))
    rows = [{"name": "background", "value": 0}] if complete and "background" not in names else []
    rows += [{"name": name} for name in names]
    made = tree_of(rows, folder.resolve().name)
    return made, (
        f"The segments make a flat label tree of {len(names)} structures; say with '--tree' what belongs to what.",
    )
