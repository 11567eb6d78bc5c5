"""A bundle in a zip archive: what export writes, import reads; an archive that is unsafe or damaged is refused."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from hierseg.bundle import Bundle, BundleProblem, export_bundle, import_bundle, list_bundles, write_bundle
from hierseg.errors import BundleError
from standins.folders import CONFIG, empty_weights


def test_export_and_import_round_trip(bundle: Bundle, tmp_path: Path) -> None:
    archive = export_bundle(bundle, tmp_path / "a.zip")
    assert export_bundle(bundle, tmp_path / "b.zip").read_bytes() == archive.read_bytes()
    assert {name.split("/")[0] for name in zipfile.ZipFile(archive).namelist()} == {"small"}
    for source in (archive, bundle.folder):
        models = tmp_path / f"models-{source.name}"
        imported = import_bundle(source, models)
        assert imported.folder == models / "small@1.2.3"
        assert imported.digest == bundle.digest
        assert Bundle.open(imported.folder).tree == bundle.tree
        assert import_bundle(source, models).folder == imported.folder
        assert [entry.name for entry in models.iterdir()] == ["small@1.2.3"]


def test_import_does_not_overwrite_another_content(bundle: Bundle, tmp_path: Path) -> None:
    models = tmp_path / "models"
    import_bundle(bundle.folder, models)
    changed = write_bundle(
        bundle.folder,
        config=CONFIG,
        metadata={"name": "small", "version": "1.2.3"},
        tree=bundle.tree,
        write_weights=empty_weights,
        card="# another\n",
        license_text="MIT\n",
    )
    with pytest.raises(BundleError, match=r"another bundle small@1\.2\.3"):
        import_bundle(changed.folder, models)
    assert import_bundle(changed.folder, models, replace=True).card == "# another\n"


def _entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (_entry("../evil.txt"), "outside its folder"),
        (_entry("small/../../evil.txt"), "outside its folder"),
        (_entry("/tmp/evil.txt"), "outside its folder"),
        (_entry("C:/evil.txt"), "outside its folder"),
        (_entry("small\\..\\..\\evil.txt"), "outside its folder"),
        (_entry("small/link", stat.S_IFLNK | 0o777), "a link"),
        (_entry("small/LICENSE"), "there twice"),
        (_entry("small/license"), "there twice"),
    ],
)
def test_unsafe_archives_are_refused(bundle: Bundle, tmp_path: Path, entry: zipfile.ZipInfo, said: str) -> None:
    archive = export_bundle(bundle, tmp_path / "a.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(entry, "evil")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BundleError, match=said) as caught:
        import_bundle(archive, tmp_path / "models")
    assert str(archive) in caught.value.sentence
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "models"}


def test_what_file_managers_leave_is_not_the_bundles_fault(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.folder / "docs" / ".DS_Store").write_bytes(b"x")
    archive = export_bundle(bundle, tmp_path / "a.zip")
    with zipfile.ZipFile(archive, "a") as file:
        assert not [name for name in file.namelist() if ".DS_Store" in name]
        file.writestr("__MACOSX/small/._LICENSE", b"x")
        file.writestr("small/Thumbs.db", b"x")
    assert import_bundle(archive, tmp_path / "models").digest == bundle.digest


def test_damaged_archives_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    archive = export_bundle(bundle, tmp_path / "a.zip")
    content = archive.read_bytes()
    (tmp_path / "short.zip").write_bytes(content[: len(content) // 2])
    flipped = bytearray(content)
    flipped[content.index(b"Apache") if b"Apache" in content else 120] ^= 0xFF
    (tmp_path / "flipped.zip").write_bytes(bytes(flipped))
    (tmp_path / "text.zip").write_text("hello", encoding="utf-8")
    for name in ("short.zip", "flipped.zip", "text.zip", "none.zip"):
        with pytest.raises(BundleError, match=name):
            import_bundle(tmp_path / name, tmp_path / "models")
    assert list_bundles(tmp_path / "models") == []


def test_a_bomb_is_refused_before_it_is_unpacked(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = export_bundle(bundle, tmp_path / "a.zip")
    monkeypatch.setattr("hierseg.bundle_files.MAX_UNPACKED_BYTES", 100)
    with pytest.raises(BundleError, match="unpacks to more"):
        import_bundle(archive, tmp_path / "models")


def test_listing_shows_sound_and_unusable_bundles(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "home" / "models"
    import_bundle(bundle.folder, models)
    shutil.copytree(bundle.folder, models / "broken")
    (models / "broken" / "LICENSE").unlink()
    (models / ".hidden").mkdir()
    found = list_bundles(models)
    assert [type(entry) for entry in found] == [BundleProblem, Bundle]
    assert isinstance(found[0], BundleProblem)
    assert "LICENSE" in found[0].sentence
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    assert [entry.folder for entry in list_bundles() if entry.folder.parent == models] == [
        entry.folder for entry in found
    ]
