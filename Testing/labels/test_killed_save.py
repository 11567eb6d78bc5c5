"""A save killed at any point leaves the old case or the new case, whole."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hierseg.dataset import Dataset
from hierseg.labeltree import LabelTree
from standins.label_trees import tree_of

TRAINING = Path(__file__).parents[2] / "training"

# The child saves the case with a new content again and again, or dies at the n-th call of some function.
CHILD = """
import gzip, os, sys
from pathlib import Path
from hierseg.dataset import Dataset

folder, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
dataset = Dataset.open(folder)

def writer(text):
    return lambda path: path.write_bytes(gzip.compress(text.encode() * 2000))

if mode != "loop":
    left = [count]
    real = getattr(os, mode)
    def dying(*arguments, **more):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return real(*arguments, **more)
    setattr(os, mode, dying)
print("ready", flush=True)
number = 1
while True:
    channels = dataset.channels
    dataset.save_case("a", [writer(f"{number}-") for _ in channels], writer(f"{number}-"), provenance={"number": number})
    if mode != "loop":
        break
    number += 1
"""


def run(folder: Path, mode: str, count: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(TRAINING)}
    command = [sys.executable, "-c", CHILD, str(folder), mode, str(count)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def number_of(folder: Path) -> int:
    """The number that every file of the case carries; fails if they do not agree."""
    dataset = Dataset.open(folder)
    case = dataset.case("a")
    label = dataset.label_path(case)
    assert label is not None
    contents = {gzip.decompress(path.read_bytes()).decode() for path in (*dataset.image_paths(case), label)}
    assert len(contents) == 1, "the files of the case come from different saves"
    number = int(contents.pop().split("-")[0])
    assert case.provenance["number"] == number
    assert not (folder / ".journal.json").exists()
    return number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tree: LabelTree = tree_of({"background": {}, "tumor": {}})
    dataset = Dataset.create(tmp_path / "set", "demo", ["A", "B"], tree)
    write = lambda path: path.write_bytes(gzip.compress(b"0-" * 2000))  # noqa: E731
    dataset.save_case("a", [write, write], write, provenance={"number": 0})
    return dataset.folder


@pytest.mark.parametrize(("mode", "steps"), [("replace", 6), ("fsync", 6), ("unlink", 2)])
def test_dying_at_every_step(folder: Path, mode: str, steps: int) -> None:
    seen = []
    for count in range(steps):
        process = run(folder, mode, count)
        process.communicate(timeout=200)
        number = number_of(folder)
        seen.append((process.returncode, number))
        # back to the old case
        dataset = Dataset.open(folder)
        write = lambda path: path.write_bytes(gzip.compress(b"0-" * 2000))  # noqa: E731
        dataset.save_case("a", [write, write], write, provenance={"number": 0})
        assert not (folder / ".staging").exists()
    assert any(code == 9 for code, _ in seen), "no step was hit"
    if mode == "replace":
        assert {number for _, number in seen} == {0, 1}, "both outcomes are seen: before and after the journal"


def test_killed_at_random_moments(folder: Path) -> None:
    generator = random.Random(0)
    reached = 0
    # At least six times, and on until one was killed after its first save, however slow the machine is.
    for attempt in range(100):
        if attempt >= 6 and reached > 0:
            break
        process = run(folder, "loop", 0)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0.02, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=200)
        reached = max(reached, number_of(folder))
    assert reached > 0


def test_a_writer_after_a_killed_writer_finishes_its_work(folder: Path) -> None:
    process = run(folder, "replace", 2)
    process.communicate(timeout=200)
    assert process.returncode == 9
    assert (folder / ".journal.json").exists()
    # even without looking first
    tree = LabelTree.load(folder / "label_tree.json")
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    Dataset(folder, content, tree).save_case(
        "b", [lambda path: path.write_bytes(b"x")] * 2, None, provenance={"number": 1}
    )
    assert number_of(folder) == 1
    assert {case.id for case in Dataset.open(folder).cases()} == {"a", "b"}
