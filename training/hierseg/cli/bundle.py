"""``hierseg bundle``: check, list, import and export model bundles."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hierseg import bundle as bundles
from hierseg import resources
from hierseg.bundle import Bundle
from hierseg.errors import BundleError


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("bundle", help="check, list, import and export model bundles", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    check = actions.add_parser("check", help="compare a bundle with its hashes and its formats")
    check.add_argument(
        "bundles", nargs="+", metavar="BUNDLE", help="a bundle folder, or the name of a bundle in 'list'"
    )
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_check)

    listing = actions.add_parser("list", help="list the user's and the shipped bundles")
    listing.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="folders of bundles to list instead")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)

    importing = actions.add_parser("import", help="copy a bundle into the user's models, checked")
    importing.add_argument("source", type=Path, help="a bundle folder or a zip archive of one")
    importing.add_argument("--into", type=Path, metavar="FOLDER", help="another folder of bundles")
    importing.add_argument("--replace", action="store_true", help="overwrite another bundle of that name and version")
    importing.set_defaults(run=_import)

    exporting = actions.add_parser("export", help="write a bundle as a zip archive")
    exporting.add_argument("bundle", metavar="BUNDLE", help="a bundle folder, or the name of a bundle in 'list'")
    exporting.add_argument("target", type=Path, help="the zip archive to write")
    exporting.set_defaults(run=_export)


def find_bundle(given: str, verify: bool = True) -> Bundle:
    """The bundle in that folder, else the listed one of that name or ``name@version``.

    Raises:
        BundleError: there is neither, or it cannot be used.
    """
    folder = Path(given)
    if folder.is_dir() or len(folder.parts) > 1:
        return Bundle.open(folder, verify)
    found = [entry for entry in bundles.list_bundles() if isinstance(entry, Bundle)]
    for entry in found:
        if given in (entry.id, entry.name):
            return Bundle.open(entry.folder, verify)
    known = ", ".join(entry.id for entry in found) or "none"
    raise BundleError(f"'{given}' is neither a bundle folder nor a known bundle; known bundles: {known}.")


def _facts(bundle: Bundle) -> dict[str, Any]:
    return {
        "id": bundle.id,
        "folder": str(bundle.folder),
        "modality": bundle.config.get("modality", ""),
        "channels": [channel["name"] for channel in bundle.config["channels"]],
        "tree": bundle.tree.fingerprint,
        "leaves": len(bundle.tree.leaves),
        "intended_use": bundle.metadata["intended_use"],
        "license": bundle.metadata["license"],
    }


def _check(arguments: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    for given in arguments.bundles:
        try:
            rows.append({"bundle": given, "ok": True, **_facts(find_bundle(given))})
        except BundleError as error:
            rows.append({"bundle": given, "ok": False, "problem": error.sentence})
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(
                f"ok: {row['folder']}: {row['id']}, {row['leaves']} leaves" if row["ok"] else f"wrong: {row['problem']}"
            )
    return 0 if all(row["ok"] for row in rows) else 2


def _list(arguments: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = [
        _facts(entry) if isinstance(entry, Bundle) else {"folder": str(entry.folder), "problem": entry.sentence}
        for entry in bundles.list_bundles(*arguments.folders)
    ]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print(
            f"unusable: {row['problem']}"
            if "problem" in row
            else f"{row['id']}  {row['modality']}  {', '.join(row['channels'])}  {row['leaves']} leaves  {row['folder']}"
        )
    if not rows:
        looked = ", ".join(str(folder) for folder in arguments.folders or resources.all_model_folders())
        print(f"no bundles in {looked}; 'hierseg bundle import' adds one, 'hierseg train' makes one")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    bundle = bundles.import_bundle(arguments.source, arguments.into, replace=arguments.replace)
    print(f"{bundle.id}: {bundle.folder}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    target = bundles.export_bundle(find_bundle(arguments.bundle, verify=False), arguments.target)
    print(target)
    return 0
