"""The model bundle: a folder with MONAI's layout that says everything needed to use a model, and runs nothing.

::

    configs/metadata.json       MONAI's keys, intended use, license, network_data_format
    configs/inference.json      for ``monai.bundle``, which executes it; this program never reads it
    configs/hierseg.json        network, channels, orientation, spacing, normalization, patch, overlap, thresholds
    configs/label_tree.json
    models/model.safetensors
    docs/README.md              the model card, with measured results
    LICENSE
    manifest.json               the SHA-256 of every other file

A bundle comes from anywhere, so it is data only: a file that could carry code, a file that the manifest does not
list, a wrong hash, a link and an archive entry that leaves its folder are refused.
Only the standard library (and numpy, through the tree) is imported.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierseg import bundle_format as layout
from hierseg.atomic import replacing, write_json, write_text
from hierseg.bundle_files import finish_swap, sha256, staging, swap, unpack, walk
from hierseg.errors import BundleError, LabelTreeError
from hierseg.labeltree import LabelTree
from hierseg.transaction import is_inside

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Bundle:
    """A checked model bundle.  Build it with :meth:`open`.

    Attributes:
        folder: where it lies.
        metadata: the content of ``configs/metadata.json``.
        config: the content of ``configs/hierseg.json``.
        tree: the label tree.
        files: relative path and SHA-256 of every file but the manifest.
    """

    folder: Path
    metadata: Mapping[str, Any] = field(hash=False)
    config: Mapping[str, Any] = field(hash=False)
    tree: LabelTree
    files: Mapping[str, str] = field(hash=False)

    @classmethod
    def open(cls, folder: str | Path, verify: bool = True) -> Bundle:
        """Open a bundle folder.

        Args:
            folder: the folder that holds ``manifest.json``.
            verify: compare every file with its hash; without it only the list of files and their content are checked.

        Raises:
            BundleError: names the file at fault and what to do.
        """
        folder = Path(folder)
        finish_swap(folder)
        if not folder.is_dir():
            raise BundleError(
                f"{folder}: there is no such bundle folder; 'hierseg bundle list' shows the bundles that there are."
            )
        files = _read_manifest(folder)
        _check_files(folder, files, verify)
        metadata = _read_object(folder / layout.METADATA)
        config = _read_object(folder / layout.CONFIG)
        layout.check_metadata(metadata, folder / layout.METADATA)
        layout.check_config(config, folder / layout.CONFIG)
        try:
            tree = LabelTree.load(folder / layout.TREE)
        except LabelTreeError as error:
            raise BundleError(error.sentence, hint=error.hint) from error
        for setting in ("thresholds", "one_piece"):
            for key in config.get(setting, ()):
                if key not in tree:
                    raise BundleError(
                        f"{folder / layout.CONFIG}: '{setting}' names {key!r}, which is no node of the bundle's label tree; correct it."
                    )
        return cls(folder, metadata, config, tree, files)

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.metadata["name"])

    @property
    def version(self) -> str:
        """The model's version."""
        return str(self.metadata["version"])

    @property
    def id(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / layout.WEIGHTS

    @property
    def card(self) -> str:
        """The text of the model card."""
        return (self.folder / layout.CARD).read_text(encoding="utf-8")

    @property
    def digest(self) -> str:
        """One hash for the whole content: that of the list of hashes."""
        return hashlib.sha256(json.dumps(dict(self.files), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class BundleProblem:
    """A folder among the models that cannot be used, and why."""

    folder: Path
    sentence: str


def write_bundle(
    folder: str | Path,
    *,
    config: Mapping[str, Any],
    metadata: Mapping[str, Any],
    tree: LabelTree,
    write_weights: Callable[[Path], object],
    card: str,
    license_text: str,
) -> Bundle:
    """Write a bundle as a whole: it is staged beside ``folder`` and then takes its place.

    Args:
        folder: becomes the bundle; a bundle that is there is replaced.
        config: the content of ``hierseg.json``; ``format_version`` may be left out.
        metadata: the content of ``metadata.json``; what MONAI requires and is missing is filled in.
        tree: the label tree.
        write_weights: called with the path of the safetensors file to write.
        card: the model card, Markdown.
        license_text: the text of the license.

    Raises:
        BundleError: the content is wrong, or ``folder`` holds something that is not a bundle.
    """
    folder = Path(folder)
    config = {"format_version": layout.FORMAT_VERSION, **config}
    layout.check_config(config, folder / layout.CONFIG)
    metadata = layout.complete_metadata(metadata, config, tree, folder.name)
    layout.check_metadata(metadata, folder / layout.METADATA)
    with staging(folder) as staged:
        write_json(staged / layout.METADATA, metadata)
        write_json(staged / layout.INFERENCE, layout.inference_config(config))
        write_json(staged / layout.CONFIG, config)
        tree.save(staged / layout.TREE)
        (staged / layout.WEIGHTS).parent.mkdir()
        write_weights(staged / layout.WEIGHTS)
        write_text(staged / layout.CARD, card)
        write_text(staged / layout.LICENSE, license_text)
        found = {relative: sha256(staged / relative) for relative in walk(staged)}
        write_json(
            staged / layout.MANIFEST, {"format_version": layout.FORMAT_VERSION, "files": dict(sorted(found.items()))}
        )
        _open_staged(staged, folder)
        swap(staged, folder)
    return Bundle.open(folder, verify=False)


def list_bundles(*folders: str | Path) -> list[Bundle | BundleProblem]:
    """All bundles in some folders of bundles (default: the user's and the shipped ones), unusable ones as problems.

    Hashes are not compared, so that listing is quick: opening a bundle to use it does that.
    """
    from hierseg.resources import all_model_folders

    found: list[Bundle | BundleProblem] = []
    for folder in [Path(folder) for folder in folders] or all_model_folders():
        if not folder.is_dir():
            continue
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(".") or not entry.is_dir():
                continue
            try:
                found.append(Bundle.open(entry, verify=False))
            except BundleError as error:
                found.append(BundleProblem(entry, error.sentence))
    return found


def import_bundle(source: str | Path, models_folder: str | Path | None = None, *, replace: bool = False) -> Bundle:
    """Copy a bundle, from a folder or a zip archive, into a folder of bundles, checked before it takes its place.

    Args:
        source: a bundle folder, or a zip archive of one.
        models_folder: default is the user's (:func:`hierseg.resources.models_folder`).
        replace: overwrite another bundle of the same name and version.

    Raises:
        BundleError: the source is damaged or unsafe, or another bundle of that name and version is there.
    """
    from hierseg.resources import models_folder as user_models_folder

    source = Path(source)
    models = Path(models_folder) if models_folder is not None else user_models_folder()
    if not source.exists():
        raise BundleError(f"{source}: there is no such file or folder; give a bundle folder or a zip archive of one.")
    with staging(models / "import") as staged:
        if source.is_dir():
            Bundle.open(source)
            for relative in [*walk(source), layout.MANIFEST]:
                (staged / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / relative, staged / relative)
            root = staged
        else:
            root = unpack(source, staged)
        checked = _open_staged(root, source)
        target = models / f"{checked.name}@{checked.version}"
        if target.exists() and not replace:
            try:
                present = Bundle.open(target)
            except BundleError:
                present = None
            if present is None or present.digest != checked.digest:
                raise BundleError(
                    f"{target}: another bundle {checked.id} is there; remove it, raise the new one's version, or import with 'replace'."
                )
            return present
        swap(root, target)
    return Bundle.open(target, verify=False)


def export_bundle(bundle: Bundle, target: str | Path) -> Path:
    """Write a bundle as a zip archive that unpacks to one folder; the same bundle gives the same bytes.

    Raises:
        BundleError: the bundle was damaged since it was opened.
    """
    target = Path(target)
    checked = Bundle.open(bundle.folder)
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for relative in sorted([*checked.files, layout.MANIFEST]):
            entry = zipfile.ZipInfo(f"{checked.name}/{relative}", _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if relative == layout.WEIGHTS else zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as packed, open(checked.folder / relative, "rb") as file:
                shutil.copyfileobj(file, packed, 2**20)
    return target


# -- checks -----------------------------------------------------------------------------------------------------


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BundleError(
            f"{path}: not valid JSON (line {error.lineno}: {error.msg}); get the bundle again."
        ) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); get the bundle again.") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path}: must be a JSON object; get the bundle again.")
    return content


def _read_manifest(folder: Path) -> dict[str, str]:
    path = folder / layout.MANIFEST
    if not path.is_file() or path.is_symlink():
        raise BundleError(
            f"{folder}: there is no {layout.MANIFEST} in this folder, so it is not a model bundle; give a bundle's folder."
        )
    content = _read_object(path)
    if content.get("format_version") != layout.FORMAT_VERSION:
        raise BundleError(
            f"{path}: format_version is {content.get('format_version')!r}, this program reads {layout.FORMAT_VERSION}; update it, or get a matching bundle."
        )
    files = content.get("files")
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        raise BundleError(f"{path}: 'files' must be an object of paths and SHA-256 hashes; get the bundle again.")
    for relative in files:
        if not is_inside(relative) or relative == layout.MANIFEST:
            raise BundleError(
                f"{path}: lists {relative!r}, which is not a path inside the bundle; do not use this bundle."
            )
    return files


def _check_files(folder: Path, files: Mapping[str, str], verify: bool) -> None:
    present = walk(folder)
    # Kinds first: "this is a pickle" tells more than "this is not in the manifest".
    for relative in present:
        layout.check_content_kind(relative, folder / relative)
    for relative in present:
        if relative not in files:
            raise BundleError(
                f"{folder / relative}: this file is not in {layout.MANIFEST}; remove it, or get the bundle again."
            )
    for relative in (*files, *layout.REQUIRED_FILES):
        if relative not in present:
            raise BundleError(f"{folder / relative}: this file is missing from the bundle; get the bundle again.")
        if relative not in files:
            raise BundleError(f"{folder / relative}: this file is not in {layout.MANIFEST}; get the bundle again.")
    for relative in files if verify else ():
        if sha256(folder / relative) != files[relative]:
            raise BundleError(
                f"{folder / relative}: its SHA-256 is not the one in {layout.MANIFEST}: the file was changed or damaged; get the bundle again."
            )


def _open_staged(staged: Path, shown: Path) -> Bundle:
    """Check a staged bundle; errors name the place that the user knows."""
    try:
        return Bundle.open(staged)
    except BundleError as error:
        raise BundleError(error.sentence.replace(str(staged), str(shown)), hint=error.hint) from error
