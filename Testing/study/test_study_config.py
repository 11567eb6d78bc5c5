"""Study files: what is read, and what is refused in one sentence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hierseg import resources
from hierseg.cli import main
from hierseg.errors import ConfigError
from hierseg.study.config import ALL, HoldOutEach, read_study, slug

GOOD: dict[str, Any] = {
    "name": "small",
    "data": {"kind": "acdc", "cases": 4, "validation": 2, "test": 2, "seed": 1, "validation_seed": 2, "test_seed": 3},
    "base": {"iterations": 10, "patch_size": [32, 32], "losses": {"marginal": 0.5}},
    "seeds": [0, 1],
    "rows": [
        {"name": "U-Net(n)", "method": "unet", "fine": [2], "only_fine": True},
        {"name": "U-Net(N)", "method": "unet", "fine": "all"},
        {"name": "ESS", "method": "ess", "fine": [2, 3], "settings": {"losses": {"superclass": 0.5}}},
    ],
    "lower": "U-Net(n)",
    "upper": "U-Net(N)",
    "default": "ESS",
}


def write(folder: Path, content: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_study_is_read(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, GOOD))
    assert (study.name, study.title, study.seeds, study.default) == ("small", "small", (0, 1), ("ESS",))
    assert study.row("U-Net(N)").fine == (ALL,)
    assert study.row("U-Net(n)").only_fine
    # Groups of settings are merged key by key.
    losses = study.row("ESS").settings["losses"]
    assert (losses["marginal"], losses["superclass"], losses["partial"]) == (0.5, 0.5, 1.0)
    assert slug("U-Net(n)") == "U-Net-n"


def test_which_classes_are_hidden_from_which_rows(tmp_path: Path) -> None:
    assert read_study(write(tmp_path, GOOD)).hold_out_each is None
    study = read_study(write(tmp_path, {**GOOD, "hold_out_each": {}}))
    assert study.hold_out_each == HoldOutEach("leaf", ("U-Net(n)", "U-Net(N)", "ESS"), (0,))
    given = {"kind": "top", "rows": ["ESS"], "seeds": [4, 5]}
    assert read_study(write(tmp_path, {**GOOD, "hold_out_each": given})).hold_out_each == HoldOutEach(
        "top", ("ESS",), (4, 5)
    )


def broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = copy.deepcopy(GOOD)
    change(content)
    return content


BAD = {
    "an unknown key": (lambda c: c.update(sedes=[1]), "unknown key 'sedes'; the nearest known key is 'seeds'"),
    "a tuning seed of the study": (
        lambda c: c.update(tuning={"grid": {"learning_rate": [1]}, "seed": 1}),
        "one of the study's seeds",
    ),
    "a chosen row that is none": (
        lambda c: c.update(tuning={"grid": {"learning_rate": [1]}, "chosen": {"EES": {"learning_rate": 1}}}),
        "'EES', which is no row",
    ),
    "a chosen value that was no candidate": (
        lambda c: c.update(tuning={"grid": {"learning_rate": [1]}, "chosen": {"ESS": {"learning_rate": 2}}}),
        "which was no candidate",
    ),
    "an unknown key of the data": (lambda c: c["data"].update(case=3), "unknown key 'case'"),
    "an unknown key of a row": (lambda c: c["rows"][0].update(fines=[1]), "unknown key 'fines'"),
    "an unknown setting": (lambda c: c["base"].update(iteration=3), "'iterations'"),
    "an unknown setting of a row": (lambda c: c["rows"][2]["settings"].update(widht=3), "row 'ESS'"),
    "no rows": (lambda c: c.pop("rows"), "has no 'rows'"),
    "no fine": (lambda c: c["rows"][0].pop("fine"), "row 1 has no 'fine'"),
    "fine of nobody": (lambda c: c["rows"][0].update(fine=[0]), "'fine' has 0"),
    "a method that is not there": (lambda c: c["rows"][0].update(method="magic"), "choose one of"),
    "two rows of one name": (lambda c: c["rows"][1].update(name="U-Net n"), "the same name"),
    "a default that is no row": (lambda c: c.update(default="other"), "'default' is 'other'"),
    "a lower bound alone": (lambda c: c.pop("upper"), "belong together"),
    "two draws of one seed": (lambda c: c["data"].update(test_seed=1), "three different ones"),
    "both kinds of data": (lambda c: c["data"].update(folder="x"), "either 'kind'"),
    "a seed in the settings": (lambda c: c["base"].update(seed=3), "'base' has 'seed'"),
    "a hash that is none": (lambda c: c["data"].update(sha256={"training": "abc"}), "64 digits"),
    "a hash of nothing": (lambda c: c["data"].update(sha256={"all": 64 * "a"}), "unknown part 'all'"),
    "a metric that is not there": (lambda c: c.update(metrics=["accuracy"]), "'metrics' names 'accuracy'"),
    "the same seed twice": (lambda c: c.update(seeds=[1, 1]), "each seed once"),
    "a kind of class that is not there": (lambda c: c.update(hold_out_each={"kind": "root"}), "choose leaf or top"),
    "a hidden class of a row that is none": (
        lambda c: c.update(hold_out_each={"rows": ["EES"]}),
        "'EES', which is no row",
    ),
    "classes that are hidden already": (
        lambda c: c.update(base={**c["base"], "hold_out": ["left ventricle"]}, hold_out_each={"kind": "leaf"}),
        "hides classes already",
    ),
    "text for a number": (lambda c: c["data"].update(cases="many"), "'data.cases' is 'many'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    change, said = BAD[name]
    path = write(tmp_path, broken(change))
    assert main(["study", str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert str(path) in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["{a: [", "just a text", "", "[1, 2]"])
def test_files_that_are_no_studies(tmp_path: Path, content: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        read_study(path)


def test_a_study_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="cardiac"):
        read_study("kardiac")


@pytest.mark.parametrize("name", resources.names("studies"))
def test_shipped_studies_are_read(name: str) -> None:
    study = read_study(name)
    assert study.name == name
    assert study.default
