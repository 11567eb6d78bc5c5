"""The model bundle: written whole, read as data, and refused when anything about it is not as the manifest says."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hierseg import resources
from hierseg.bundle import Bundle, write_bundle
from hierseg.bundle_format import check_config
from hierseg.errors import BundleError
from hierseg.labeltree import LabelTree
from standins.folders import CONFIG, empty_weights, state_of

ROOT = Path(__file__).parents[2]


def write_again(bundle: Bundle, **changes: Any) -> Bundle:
    arguments: dict[str, Any] = {
        "config": CONFIG,
        "metadata": {"name": "small", "version": "1.2.3"},
        "tree": bundle.tree,
        "write_weights": empty_weights,
        "card": "# another\n",
        "license_text": "MIT\n",
    }
    return write_bundle(bundle.folder, **{**arguments, **changes})


def admit(bundle: Bundle, relative: str) -> None:
    """Put a file's present hash into the manifest: what a forger would do."""
    path = bundle.folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"][relative] = hashlib.sha256((bundle.folder / relative).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_what_was_written_is_read(bundle: Bundle, tree: LabelTree) -> None:
    again = Bundle.open(bundle.folder)
    assert (again.id, again.name, again.version) == ("small@1.2.3", "small", "1.2.3")
    assert again.tree == tree
    assert again.config == {"format_version": 1, **CONFIG}
    assert again.card == "# small\n"
    assert again.weights.read_bytes()[8:] == b"{}"
    assert sorted(again.files) == [
        "LICENSE",
        "configs/hierseg.json",
        "configs/inference.json",
        "configs/label_tree.json",
        "configs/metadata.json",
        "docs/README.md",
        "models/model.safetensors",
    ]
    assert [entry.name for entry in bundle.folder.parent.iterdir()] == ["model"]


def test_every_file_meets_its_schema(bundle: Bundle) -> None:
    for schema, relative in {
        "metadata": "configs/metadata.json",
        "hierseg": "configs/hierseg.json",
        "label_tree": "configs/label_tree.json",
        "manifest": "manifest.json",
    }.items():
        validator = Draft202012Validator(json.loads(resources.path("schemas", schema).read_text(encoding="utf-8")))
        assert list(validator.iter_errors(json.loads((bundle.folder / relative).read_text(encoding="utf-8")))) == []


def test_the_examples_of_the_page_are_sound() -> None:
    page = (ROOT / "docs" / "model-bundle.md").read_text(encoding="utf-8")
    config, manifest = (json.loads(part.split("```")[0]) for part in page.split("```json\n")[1:])
    check_config(config, Path("page"))
    for schema, example in (("hierseg", config), ("manifest", manifest)):
        validator = Draft202012Validator(json.loads(resources.path("schemas", schema).read_text(encoding="utf-8")))
        assert list(validator.iter_errors(example)) == []


def test_metadata_has_what_monai_requires(bundle: Bundle) -> None:
    from importlib.metadata import version

    metadata = bundle.metadata
    assert metadata["monai_version"] == version("monai")
    assert metadata["numpy_version"] == version("numpy")
    outputs = metadata["network_data_format"]["outputs"]["pred"]
    assert outputs["num_channels"] == 3
    assert outputs["channel_def"] == {"0": "background", "1": "core", "2": "edema"}
    assert metadata["network_data_format"]["inputs"]["image"]["channel_def"] == {"0": "MRI"}
    assert "not a medical device" in metadata["intended_use"].lower()


def _append(relative: str) -> Callable[[Bundle], None]:
    def change(bundle: Bundle) -> None:
        with open(bundle.folder / relative, "ab") as file:
            file.write(b" ")

    return change


@pytest.mark.parametrize(
    "relative", ["LICENSE", "configs/inference.json", "models/model.safetensors", "docs/README.md"]
)
def test_a_changed_file_is_named(bundle: Bundle, relative: str) -> None:
    _append(relative)(bundle)
    with pytest.raises(BundleError, match="SHA-256") as caught:
        Bundle.open(bundle.folder)
    assert str(bundle.folder / relative) in caught.value.sentence


@pytest.mark.parametrize(
    "relative", ["LICENSE", "configs/label_tree.json", "models/model.safetensors", "manifest.json"]
)
def test_a_missing_file_is_named(bundle: Bundle, relative: str) -> None:
    (bundle.folder / relative).unlink()
    with pytest.raises(BundleError, match=r"missing|there is no") as caught:
        Bundle.open(bundle.folder)
    assert relative in caught.value.sentence


def test_a_file_beside_the_manifest_is_refused(bundle: Bundle) -> None:
    (bundle.folder / "docs" / "more.md").write_text("hello", encoding="utf-8")
    with pytest.raises(BundleError, match=r"more\.md.*not in manifest"):
        Bundle.open(bundle.folder)


class Evil:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "relative",
    ["models/model.pt", "models/model.ts", "x.pth", "x.pkl", "x.bin", "docs/notes.txt", "models/model.safetensors"],
)
def test_pickles_are_refused_and_never_opened(bundle: Bundle, tmp_path: Path, relative: str, protocol: int) -> None:
    (bundle.folder / relative).write_bytes(pickle.dumps(Evil(tmp_path / "owned"), protocol))
    admit(bundle, relative)
    with pytest.raises(BundleError, match=r"pickle") as caught:
        Bundle.open(bundle.folder)
    assert relative in caught.value.sentence
    assert not (tmp_path / "owned").exists()


def test_a_torch_archive_with_an_innocent_name_is_refused(bundle: Bundle) -> None:
    with zipfile.ZipFile(bundle.folder / "docs" / "picture.png", "w") as archive:
        archive.writestr("data.pkl", b"x")
    admit(bundle, "docs/picture.png")
    with pytest.raises(BundleError, match=r"picture\.png: this is a zip archive"):
        Bundle.open(bundle.folder)


def test_scripts_are_refused(bundle: Bundle) -> None:
    (bundle.folder / "scripts").mkdir()
    (bundle.folder / "scripts" / "run.py").write_text("print('hello')", encoding="utf-8")
    admit(bundle, "scripts/run.py")
    with pytest.raises(BundleError, match=r"run\.py: '\.py' is not a kind of file"):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_are_refused(bundle: Bundle, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "LICENSE").write_text("x", encoding="utf-8")
    if what == "file":
        (bundle.folder / "LICENSE").unlink()
        (bundle.folder / "LICENSE").symlink_to(outside / "LICENSE")
    else:
        (bundle.folder / "more").symlink_to(outside)
    with pytest.raises(BundleError, match="link"):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize("relative", ["../x.json", "/etc/passwd", "C:/x", "a\\..\\..\\x", "manifest.json"])
def test_a_manifest_that_points_outside_is_refused(bundle: Bundle, relative: str) -> None:
    path = bundle.folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"][relative] = "0" * 64
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match="not a path inside"):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize("relative", ["manifest.json", "configs/hierseg.json", "configs/label_tree.json"])
def test_another_format_version_is_refused(bundle: Bundle, relative: str) -> None:
    path = bundle.folder / relative
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "format_version": 2}), encoding="utf-8")
    if relative != "manifest.json":
        admit(bundle, relative)
    with pytest.raises(BundleError, match="format_version") as caught:
        Bundle.open(bundle.folder)
    assert str(path) in caught.value.sentence


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": "x"}, "'network'"),
        ({"channels": []}, "'channels'"),
        ({"channels": [{"name": "MRI", "normalization": {"type": "magic"}}]}, "percentile, zscore, range, none"),
        ({"channels": [{"name": "MRI", "normalization": {"type": "range", "lower": 5, "upper": 5}}]}, "ascending"),
        ({"channels": [{"name": "MRI", "normalization": {"type": "range", "lower": 5}}]}, "ascending"),
        ({"channels": [{"name": "MRI", "normalization": {"type": ["none"]}}]}, "types are"),
        (
            {"channels": [{"name": "MRI", "normalization": {"type": "percentile", "lower": -1, "upper": 99}}]},
            "0 to 100",
        ),
        ({"slice_axis": 3}, "'slice_axis'"),
        ({"orientation": "RAA"}, "'orientation'"),
        ({"orientation": "RL"}, "'orientation'"),
        ({"spacing": [1, 1]}, "'spacing'"),
        ({"spacing": [1, 1, 0]}, "'spacing'"),
        ({"spacing": [1, 1, float("inf")]}, "'spacing'"),
        ({"patch_size": [16, 16]}, "'patch_size'"),
        ({"patch_size": [16, 16, 1.5]}, "'patch_size'"),
        ({"spatial_dims": 4}, "'spatial_dims'"),
        ({"overlap": 1.0}, "'overlap'"),
        ({"coarse_pass": True}, "'coarse_pass'"),
        ({"coarse_pass": {"factor": [2, 2], "threshold": 0.3}}, "'coarse_pass'"),
        ({"coarse_pass": {"factor": [2, 2, 2]}}, "'coarse_pass'"),
        ({"coarse_pass": {"factor": [2, 2, 2], "threshold": 0.3, "branch_threshold": 2}}, "'coarse_pass'"),
        ({"thresholds": []}, "'thresholds'"),
        ({"thresholds": {"core": "0.5"}}, "'thresholds'"),
        ({"thresholds": {"core": 1.5}}, "'thresholds'"),
        ({"one_piece": "core"}, "'one_piece'"),
        ({"one_piece": [1]}, "'one_piece'"),
        ({"modality": 3}, "'modality'"),
    ],
)
def test_a_wrong_configuration_is_named_and_nothing_is_written(
    bundle: Bundle, changes: dict[str, Any], said: str
) -> None:
    before = state_of(bundle.folder)
    with pytest.raises(BundleError) as caught:
        write_again(bundle, config={**CONFIG, **changes})
    assert said in caught.value.sentence
    assert "hierseg.json" in caught.value.sentence
    assert state_of(bundle.folder) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "../x"}, "name"),
        ({"version": "1"}, "version"),
        ({"intended_use": ""}, "intended_use"),
        ({"required_packages_version": []}, "required_packages_version"),
        ({"network_data_format": {"inputs": {}}}, "network_data_format"),
        ({"network_data_format": {"inputs": {"image": {}}, "outputs": {"pred": {}}}}, "channel_def"),
    ],
)
def test_wrong_metadata_is_named(bundle: Bundle, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        write_again(bundle, metadata={"name": "small", "version": "1.0.0", **changes})


def test_a_setting_of_a_node_that_is_not_there_is_named(bundle: Bundle) -> None:
    assert write_again(bundle, config={**CONFIG, "thresholds": {"tumor/core": 0.5}}).config["thresholds"]
    with pytest.raises(BundleError, match="'liver'"):
        write_again(bundle, config={**CONFIG, "thresholds": {"liver": 0.5}})
    assert write_again(bundle, config={**CONFIG, "one_piece": ["tumor/core"]}).config["one_piece"]
    with pytest.raises(BundleError, match="'one_piece' names 'liver'"):
        write_again(bundle, config={**CONFIG, "one_piece": ["liver"]})


def test_weights_that_fail_leave_the_old_bundle(bundle: Bundle) -> None:
    before = state_of(bundle.folder.parent)

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(BundleError, match="No space left"):
        write_again(bundle, write_weights=full)
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        write_again(bundle, write_weights=lambda path: path.write_bytes(pickle.dumps({})))
    with pytest.raises(BundleError, match=r"model\.safetensors.*missing"):
        write_again(bundle, write_weights=lambda path: None)
    assert state_of(bundle.folder.parent) == before


def test_writing_again_replaces(bundle: Bundle) -> None:
    (bundle.folder / "docs" / "old.md").write_text("stale", encoding="utf-8")
    again = write_again(bundle)
    assert again.card == "# another\n"
    assert not (bundle.folder / "docs" / "old.md").exists()
    assert [entry.name for entry in bundle.folder.parent.iterdir()] == ["model"]


def test_a_folder_that_is_no_bundle_is_not_replaced(bundle: Bundle, tmp_path: Path, tree: LabelTree) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("three years", encoding="utf-8")
    with pytest.raises(BundleError, match="not a bundle"):
        write_bundle(
            home, config=CONFIG, metadata={}, tree=tree, write_weights=empty_weights, card="", license_text="x"
        )
    assert (home / "thesis.txt").read_text(encoding="utf-8") == "three years"


def test_a_replacement_killed_between_its_two_steps_is_undone(bundle: Bundle) -> None:
    bundle.folder.rename(bundle.folder.with_name(f".replaced-{bundle.folder.name}"))
    assert Bundle.open(bundle.folder).id == bundle.id


def test_opening_runs_nothing_of_a_hostile_inference_config(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.folder / "configs" / "inference.json"
    path.write_text(json.dumps({"imports": [f"$open({str(tmp_path / 'owned')!r}, 'w')"]}), encoding="utf-8")
    admit(bundle, "configs/inference.json")
    Bundle.open(bundle.folder)
    assert not (tmp_path / "owned").exists()
