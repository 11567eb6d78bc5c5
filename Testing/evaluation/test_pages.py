"""The pages of scores: what they show is true, and they need nothing but themselves."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.blobs import TREE, blob, coarsen, save
from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.evaluation.case_scores import score_case
from hierseg.evaluation.html import Curve, Section, bar_plot, box_plot, curve_plot, page, table
from hierseg.evaluation.html.pictures import area, outline, pictures
from hierseg.evaluation.html.plots import ticks as round_ticks
from hierseg.evaluation.worst import picture, worst_cases
from hierseg.imageio import write_volume

SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)
MASKS = arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)))


class Strict(HTMLParser):
    """Every element is closed where it should be, and nothing is fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        for name, value in attrs:
            assert name not in ("src", "href") or (value or "").startswith("data:"), (tag, name)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def svgs(text: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in SVG.findall(text)]


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """A dataset of three cases and two models' scores: one perfect but for a lost subclass in the last case, one shifted."""
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)
    for seed in range(3):
        image, label = blob(seed, 16)
        save(dataset, f"case{seed}", image, label)
        lost = np.where(label == 2, 0, label).astype(np.uint8) if seed == 2 else label
        for name, found in (("good", lost), ("shifted", np.roll(label, 2, axis=0))):
            write_volume(tmp_path / name / f"case{seed}_labels.nii.gz", found, np.eye(4))
    for name in ("good", "shifted"):
        assert (
            main(["evaluate", str(tmp_path / name), str(dataset.folder), "--out", str(tmp_path / f"{name}-scores")])
            == 0
        )
    return tmp_path / "good-scores", tmp_path / "shifted-scores"


def test_the_page_of_a_model(models: tuple[Path, Path]) -> None:
    text = (models[0] / "report.html").read_text(encoding="utf-8")
    Strict(text)
    for node in TREE.nodes:
        assert node.name in text
    dice, distance, *_ = svgs(text)
    dots = [circle.findtext("title") for circle in dice.iter("circle")]
    assert len(dots) == 3 * 3, "three structures in three cases; the background is left out"
    assert "edema, case2: 0" in dots
    assert distance.get("aria-label") == "Box plots: HD95 mm"
    assert "case2</b>" in text
    assert "case0</b>" not in text, "a case without an error is none of the worst"
    assert "data:image/png;base64," in text
    errors = json.loads((models[0] / "scores.json").read_text())["cases"]["case2"]["errors"]
    assert [one[:2] for one in errors] == [["edema", "background"]]


def test_without_pictures(models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = models[0].parent
    words = ["evaluate", str(folder / "good"), str(folder / "data"), "--out", str(folder / "bare")]
    assert main([*words, "--pictures", "0"]) == 0
    assert "data:image" not in (folder / "bare" / "report.html").read_text(encoding="utf-8")
    assert main([*words, "--pictures", "-1"]) == 2
    assert "--pictures is -1" in capsys.readouterr().err


def test_the_page_of_a_comparison(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, shifted = models
    words = ["compare", "--scores", f"net@3={shifted}", f"net@9={good}"]
    assert main([*words, "--out", str(tmp_path / "both")]) == 0
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == [
        f"comparison.{ending}" for ending in ("csv", "html", "json", "md")
    ]
    text = (tmp_path / "both" / "comparison.html").read_text(encoding="utf-8")
    Strict(text)
    curve, boxes, bars = svgs(text)
    assert len(list(curve.iter("circle"))) == 2, "one method with two numbers of fine labels"
    assert len(list(curve.iter("polyline"))) == 1
    assert len(list(boxes.iter("circle"))) == 2 * 3 * (len(TREE.nodes) + 1)
    assert len(list(bars.iter("rect"))) >= 2
    single = tmp_path / "single.html"
    assert main(["compare", "--scores", f"a={shifted}", f"b={good}", "--out", str(single)]) == 0
    assert "Number of fine labels" not in single.read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["compare", "--scores", f"net@few={shifted}", f"b={good}"]) == 2
    assert "after the @" in capsys.readouterr().err


def test_errors_add_up() -> None:
    rng = np.random.default_rng(0)
    reference = rng.choice([0, 1, 2, 5, 255], (6, 5, 4)).astype(np.uint8)
    found = rng.choice([0, 1, 2, 255], reference.shape).astype(np.uint8)
    case = score_case(found, reference, TREE, (1, 1, 1), surfaces=False)
    assert case.labelled == (reference != 255).sum()
    assert case.wrong == pytest.approx(sum(one.voxels for one in case.errors) / case.labelled)
    assert case.tree_distance == pytest.approx(sum(one.voxels * one.distance for one in case.errors) / case.labelled)
    assert [one.voxels for one in case.errors] == sorted((one.voxels for one in case.errors), reverse=True)
    pairs = {(one.reference, one.predicted): one.voxels for one in case.errors}
    assert pairs["core", "edema"] == ((reference == 1) & (found == 2)).sum()
    assert pairs["tumor", "unlabelled"] == ((reference == 5) & (found == 255)).sum()
    assert ("tumor", "core") not in pairs


def test_a_box_lies_where_the_numbers_are() -> None:
    cases = {f"c{number}": value for number, value in enumerate([0.0, 1.0, 2.0, 3.0, 10.0])}
    (plot,) = svgs(box_plot({"node": {"": cases}}, "mm"))
    grid = {
        float(text.text or 0): float(text.get("x", 0))
        for text in plot.iter("text")
        if text.get("text-anchor") == "middle" and text.text != "mm"
    }
    first, last = min(grid), max(grid)

    def value(x: str | None) -> float:
        return first + (last - first) * (float(x or 0) - grid[first]) / (grid[last] - grid[first])

    box = next(plot.iter("g"))
    whisker, median = box.findall("line")
    rectangle = box.find("rect")
    assert rectangle is not None
    assert value(rectangle.get("x")) == pytest.approx(1.0, abs=0.05)
    assert float(rectangle.get("width", 0)) * (last - first) / (grid[last] - grid[first]) == pytest.approx(
        2.0, abs=0.05
    )
    assert value(median.get("x1")) == pytest.approx(2.0, abs=0.05)
    assert (value(whisker.get("x1")), value(whisker.get("x2"))) == pytest.approx((0.0, 3.0), abs=0.05)
    dots = sorted(value(circle.get("cx")) for circle in plot.iter("circle"))
    assert dots == pytest.approx([0, 1, 2, 3, 10], abs=0.05)


def test_names_are_no_markup() -> None:
    name = '<script>"a" & b</script>'
    plots = [
        box_plot({name: {name: {name: 1.0}, "other": {}}}, name),
        bar_plot({name: {name: 1.0, "other": 2.0}}, name),
        curve_plot([Curve(name, {3: [0.5, 0.6], 140: [0.7]})], name, name, lines={name: 0.9}),
    ]
    text = page(
        name,
        [Section(name, plot + table([name], [[name + "\n" + name]]), name) for plot in plots],
        name,
        [(name, name)],
    )
    Strict(text)
    assert len(svgs(text)) == 3


@given(st.floats(-1e4, 1e4), st.floats(0, 1e4), st.sampled_from([None, 100.0]))
def test_ticks_are_few_and_enclose(low: float, span: float, highest: float | None) -> None:
    ticks = round_ticks(low, low + span, highest)
    assert 2 <= len(ticks) <= 10
    slack = 1e-6 * max(1.0, abs(low), abs(low + span))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    if highest is not None and low + span <= highest:
        assert ticks[-1] <= highest
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


@given(MASKS)
def test_an_area_is_the_mask(mask: np.ndarray) -> None:
    drawn = np.zeros_like(mask)
    for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1", area(mask)):
        drawn[int(y), int(x) : int(x) + int(length)] = True
    assert np.array_equal(drawn, mask)


@given(MASKS)
def test_an_outline_separates_inside_from_outside(mask: np.ndarray) -> None:
    edges = set()
    for x, y, way, length in re.findall(r"M(\d+) (\d+)([hv])(\d+)", outline(mask)):
        for step in range(int(length)):
            edges.add((int(x) + step * (way == "h"), int(y) + step * (way == "v"), way))
    padded = np.pad(mask, 1)
    expected = set()
    for y in range(mask.shape[0] + 1):
        for x in range(mask.shape[1] + 1):
            if x < mask.shape[1] and padded[y, x + 1] != padded[y + 1, x + 1]:
                expected.add((x, y, "h"))
            if y < mask.shape[0] and padded[y + 1, x] != padded[y + 1, x + 1]:
                expected.add((x, y, "v"))
    assert edges == expected


def head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image whose surroundings are bright, a small reference in it, and a prediction that is wrong in one slice of it and,
    more so, far away.
    """
    image = np.full((40, 30, 20), 1000.0, np.float32)
    reference = np.zeros(image.shape, np.uint8)
    reference[10:18, 8:14, 5:9] = 1
    image[reference == 1] = 10.0
    prediction = reference.copy()
    prediction[11:13, 9:12, 7] = 2
    prediction[30:38, 20:28, 15] = 2
    return image, reference, prediction


def test_a_picture_ends_with_the_reference() -> None:
    image, reference, prediction = head()
    found = picture("c", prediction, reference, TREE, np.eye(4), image)
    assert found is not None
    assert found.image is not None
    assert found.image.shape == found.reference.shape == (6 + 2 * 2, 8 + 2 * 2)
    assert found.where == "axial slice 8 of 20"
    assert found.wrong == 6
    assert found.size == (10.0, 12.0)
    # Right is left and anterior is up: a voxel at the smallest x and y lies below and right.
    assert found.predicted[::-1, ::-1].T[3, 3] == 2


def test_no_image_where_nothing_was_annotated() -> None:
    image, reference, prediction = head()
    found = picture("c", prediction, np.zeros_like(reference), TREE, np.eye(4), image)
    assert found is not None
    assert found.image is None
    assert found.wrong > 0
    assert picture("c", np.zeros_like(reference), np.zeros_like(reference), TREE, np.eye(4), image) is None


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, -1)])
def test_a_picture_does_not_depend_on_how_the_voxels_are_stored(axes: tuple[int, ...], flip: tuple[int, ...]) -> None:
    image, reference, prediction = head()
    upright = picture("c", prediction, reference, TREE, np.diag([1.0, 2.0, 1.5, 1.0]), image)
    turned = [one.transpose(axes)[:: flip[0], :: flip[1], :: flip[2]] for one in (image, reference, prediction)]
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([1.0, 2.0, 1.5])[:, list(axes)]) * np.array(flip)
    same = picture("c", turned[2], turned[1], TREE, affine, turned[0])
    assert upright is not None
    assert same is not None
    assert (same.where, same.size) == (upright.where, upright.size)
    for name in ("image", "reference", "predicted"):
        assert np.array_equal(getattr(same, name), getattr(upright, name))


def test_gray_values_arrive(tmp_path: Path) -> None:
    image, reference, prediction = head()
    image += np.random.default_rng(0).normal(0, 100, image.shape).astype(np.float32)
    found = picture("c", prediction, reference, TREE, np.eye(4), image)
    assert found is not None
    text = pictures([found], TREE, ["a caption"])
    content = re.findall(r"base64,([^\"]+)", text)
    assert len(content) == 2
    (tmp_path / "slice.png").write_bytes(base64.b64decode(content[0]))
    assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "slice.png")), found.image)


def test_the_worst_case_first() -> None:
    _image, label = blob(0, 12)
    cases = {
        "perfect": label,
        "shifted": np.roll(label, 1, axis=0),
        "lost": np.zeros_like(label),
    }
    scores = {name: score_case(found, label, TREE, (1, 1, 1), surfaces=False) for name, found in cases.items()}
    assert worst_cases(scores, TREE, 5) == ["lost", "shifted"]
    assert worst_cases(scores, TREE, 1) == ["lost"]
    coarse = score_case(np.zeros_like(label), coarsen(label), TREE, (1, 1, 1), surfaces=False)
    assert worst_cases({"shifted": scores["shifted"], "coarse": coarse}, TREE, 2) == ["coarse", "shifted"]
