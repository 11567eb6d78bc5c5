"""The steps of the main job; each is a method that leaves what the next one needs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import picture
import scores
import slicer
import strokes
from scans import NEW_LEAVES, PARENT, A, B, Scan
from tqdm import tqdm

from hierseg import resources
from hierseg.atomic import write_json, write_text
from hierseg.bundle import Bundle
from hierseg.dataset import Dataset
from hierseg.errors import TrainingError
from hierseg.imageio import Volume, read_volume, write_volume
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.jobs import PredictionResult, Progress
from HierSubclassSegLib.compute.launch import environment, train_command, worker_command
from HierSubclassSegLib.compute.prepare import ImageArray
from HierSubclassSegLib.compute.training import TrainingRun
from HierSubclassSegLib.compute.transport import SubprocessTransport
from HierSubclassSegLib.scene import geometry
from HierSubclassSegLib.scene.annotation import annotation_from_prediction, tree_of
from HierSubclassSegLib.scene.export import export_case
from HierSubclassSegLib.scene.export_summary import summarize_export
from HierSubclassSegLib.scene.painting import RefineSession
from HierSubclassSegLib.scene.prediction import create_prediction
from HierSubclassSegLib.scene.session import open_session
from HierSubclassSegLib.scene.storage import save_scene, save_segmentation
from HierSubclassSegLib.scene.takeover import take_over
from HierSubclassSegLib.scene.views import show_only

NEW = {leaf["name"] for leaf in NEW_LEAVES}


@dataclass
class Loaded:
    """A scan in memory and in the scene."""

    scan: Scan
    volume: Volume
    node: Any
    before: PredictionResult | None = None
    after: PredictionResult | None = None


@dataclass
class MainJob:
    """The demo's state; :meth:`run` takes the steps in order.

    Args:
        out: folder for everything that is written.
        bundle: the bundle to start from, or None for the shipped one.
        config: training configuration.
        iterations: of the fine-tuning, or None for the configuration's.
        a: the scan that gets strokes.
        b: the scan that nobody annotates.
    """

    out: Path
    bundle: Path | None
    config: Path
    iterations: int | None
    a: Scan = A
    b: Scan = B
    download_seconds: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    written: list[tuple[str, Path]] = field(default_factory=list)

    def run(self) -> None:
        """All steps."""
        with self._step("get the scans"):
            paths = {scan: scan.fetch() for scan in (self.a, self.b)}
        self.download_seconds = self.seconds["get the scans"]
        session = open_session()
        a, b = (self._load(session.scene, scan, path) for scan, path in paths.items())
        start = Bundle.open(self.bundle or resources.path("models", "brain-start"))
        with WorkerClient(SubprocessTransport(worker_command(), environment())) as client:
            for one in (a, b):
                with self._step(f"segment {one.scan.name} with {start.id}"):
                    one.before = self._predict(client, one, start)
            with self._step("put the result into the scene"):
                prediction = self._into_scene(a, a.before)
            with self._step(f"paint {len(NEW)} subclasses of the {PARENT} in {strokes.SLICES} slices"):
                annotation, drawn = self._annotate(a, prediction)
                tree = tree_of(annotation)
            with self._step("export the annotation"):
                dataset = self._export(annotation, a, tree)
            with self._step("fine-tune"):
                tuned = self._fine_tune(dataset, start)
            for one in (a, b):
                with self._step(f"segment {one.scan.name} with {tuned.id}"):
                    one.after = self._predict(client, one, tuned)
        with self._step("save segmentation and scene"):
            self._save(session.scene, b)
        with self._step("score and draw"):
            self._report(a, b, tree, drawn, start, tuned)
        session.close()

    # -- steps --------------------------------------------------------------------------------------------------

    def _load(self, scene: slicer.vtkMRMLScene, scan: Scan, path: Path) -> Loaded:
        volume = read_volume(path)
        return Loaded(scan, volume, geometry.make_volume(scene, volume.array, volume.affine, f"scan {scan.name}"))

    def _predict(self, client: WorkerClient, one: Loaded, bundle: Bundle) -> PredictionResult:
        with tqdm(
            total=100, unit="%", leave=False, bar_format="   {desc:<12} {bar} {percentage:3.0f}% {postfix}"
        ) as bar:

            def follow(progress: Progress) -> None:
                bar.set_description_str(progress.stage, refresh=False)
                if progress.seconds_left is not None:
                    bar.set_postfix_str(f"{progress.seconds_left:.0f} s left", refresh=False)
                bar.update(round(100 * progress.fraction) - bar.n)

            return client.predict([ImageArray(one.volume.array, one.volume.affine)], bundle, follow)

    def _into_scene(self, one: Loaded, result: PredictionResult | None) -> Any:
        assert result is not None
        return create_prediction(
            [one.node],
            result.tree,
            result.labels,
            confidence=result.confidence,
            bundle_id=result.bundle,
            affine=result.affine,
        )

    def _annotate(self, a: Loaded, prediction: Any) -> tuple[Any, dict[int, np.ndarray]]:
        """Keep the predicted superclasses, take over what lies in the parent's, add subclasses, paint them in a few slices."""
        annotation = annotation_from_prediction(prediction, superclasses_only=True, name="annotation of scan A")
        take_over(annotation, tree_of(annotation).top_of(PARENT))
        drawn: dict[int, np.ndarray] = {}
        with RefineSession(annotation, a.node) as session:
            for leaf in NEW_LEAVES:
                red, green, blue = leaf["color"]
                session.add_subclass(PARENT, leaf["name"], (red, green, blue), leaf["value"])
            reference = a.scan.reference_map(session.tree)
            values = [leaf["value"] for leaf in NEW_LEAVES]
            slices = strokes.choose_slices(np.isin(reference, values))
            session.enter(PARENT)
            for leaf in NEW_LEAVES:
                session.paint(leaf["name"], strokes.draw(reference, leaf["value"], slices))
            for leaf in NEW_LEAVES:
                drawn[leaf["value"]] = session.voxels(leaf["name"])
        voxels = sum(int(mask.sum()) for mask in drawn.values())
        print(f"   {voxels} voxels in slices {', '.join(map(str, slices))}, all inside the predicted {PARENT}")
        return annotation, drawn

    def _export(self, annotation: Any, a: Loaded, tree: LabelTree) -> Path:
        folder = self.out / "dataset"
        dataset = Dataset.create(folder, "demo annotations", ["MRI"], tree)
        summary = summarize_export(annotation)
        print(
            f"   fine {summary.fine_ml:.0f} ml, coarse {summary.coarse_ml:.0f} ml, "
            f"unlabelled {summary.unlabelled_ml:.0f} ml"
        )
        export_case(annotation, dataset, volume_nodes=[a.node], case_id="scan-A")
        self.written.append(("exported dataset folder", folder))
        return folder

    def _fine_tune(self, dataset: Path, start: Bundle) -> Bundle:
        run_folder = self.out / "run"
        arguments = ["--quiet", "--name", "brain-start-cerebellum", "--threads", str(os.cpu_count() or 1)]
        if self.iterations:
            arguments += ["--set", f"iterations={self.iterations}"]
        run = TrainingRun.start(
            train_command(), dataset, run_folder, config=self.config, init=start.folder, arguments=arguments
        )
        with tqdm(unit="it", leave=False, bar_format="   training     {bar} {n_fmt}/{total_fmt} {postfix}") as bar:
            while not (status := run.status()).ended:
                bar.total = status.iterations or bar.total
                if status.seconds_left is not None:
                    bar.set_postfix_str(f"{status.seconds_left:.0f} s left", refresh=False)
                bar.update((status.iteration or 0) - bar.n)
                time.sleep(0.5)
        if run.bundle is None:
            raise TrainingError(
                f"{run_folder}: the fine-tuning ended without a bundle ({status.message}); see its log there."
            )
        self.written.append(("fine-tuned bundle", run.bundle))
        return Bundle.open(run.bundle)

    def _save(self, scene: slicer.vtkMRMLScene, b: Loaded) -> None:
        assert b.after is not None
        segmentation = self._into_scene(b, b.after)
        for what, name, array in (
            ("leaf label map of B", "B_labels.nii.gz", b.after.labels),
            ("superclass label map of B", "B_superclass.nii.gz", b.after.superclass),
        ):
            write_volume(self.out / name, array, b.after.affine)
            self.written.append((what, self.out / name))
        save_segmentation(segmentation, self.out / "segmentation.seg.nrrd")
        self.written.append(("segments of B with the hierarchy in their tags", self.out / "segmentation.seg.nrrd"))
        show_only(scene, b.node, segmentation)
        save_scene(scene, self.out / "scene.mrb")
        self.written.append(("scene for Slicer", self.out / "scene.mrb"))

    def _report(
        self, a: Loaded, b: Loaded, tree: LabelTree, drawn: dict[int, np.ndarray], start: Bundle, tuned: Bundle
    ) -> None:
        assert a.before
        assert a.after
        assert b.before
        assert b.after
        reference_a, reference_b = a.scan.reference_map(tree), b.scan.reference_map(tree)
        painted = np.any(list(drawn.values()), axis=0)
        far = scores.away_from(painted, a.volume.spacing)
        parent = b.before.labels == start.tree.node(PARENT).value
        nearest = scores.split_by_nearest_stroke(parent, b.volume.affine, drawn, a.volume.affine, b.before.labels)
        result = scores.Scores(
            before=scores.score(b.before.labels, reference_b, tree),
            after=scores.score(b.after.labels, reference_b, tree),
            nearest=scores.score(nearest, reference_b, tree),
            far_before=scores.score(a.before.labels, reference_a, tree, far),
            far_after=scores.score(a.after.labels, reference_a, tree, far),
        )
        text = (
            scores.table(result, tree, NEW)
            + "\n\n"
            + "\n".join(f"- {line}" for line in scores.verdict(result, NEW))
            + "\n"
        )
        write_text(self.out / "table.md", text)
        seconds = {name: round(value, 1) for name, value in self.seconds.items()}
        write_json(
            self.out / "table.json", {"dice": vars(result), "seconds": seconds, "start": start.id, "tuned": tuned.id}
        )
        self._draw(a, b, tree, drawn)
        self.written += [("table", self.out / "table.md"), ("picture", self.out / "demo.png")]
        print(
            f"\nA: {a.scan.what}\nB: {b.scan.what}\nDice in percent against samseg's label maps (Testing/demo/reference)\n"
        )
        print(text)
        for what, path in self.written:
            print(f"{what:<48} {path}")

    def _draw(self, a: Loaded, b: Loaded, tree: LabelTree, drawn: dict[int, np.ndarray]) -> None:
        assert b.before
        assert b.after
        marks = np.full(a.volume.array.shape, tree.unlabelled, dtype=tree.dtype)
        for value, mask in drawn.items():
            marks[mask] = value
        cut = int(np.argmax(np.any(list(drawn.values()), axis=0).sum(axis=(0, 2))))
        # B is cut where most of its rarer new subclass lies, and seen to be split there.
        areas = [(b.after.labels == leaf["value"]).sum(axis=(0, 2)) for leaf in NEW_LEAVES]
        split = int(np.argmax(min(areas, key=lambda area: int(area.sum()))))
        deepest = b.after.labels == tree.node("thalamus").value
        deep = round(float(np.argwhere(deepest if deepest.any() else b.after.superclass >= 0)[:, 2].mean()))
        head_a, head_b = (picture.bounding_box(one.after.superclass > 0, 6) for one in (a, b) if one.after)
        panels = []
        low_a, low_b = head_a[1].start, head_b[1].start
        a_image, a_marks = a.volume.array[head_a], marks[head_a]
        b_image, before, after = b.volume.array[head_b], b.before.labels[head_b], b.after.labels[head_b]
        panels.append(
            [
                ("A: strokes in 5 slices", a_image, a_marks, 1, cut - low_a, a.volume.spacing),
                ("B: not annotated", b_image, None, 1, split - low_b, b.volume.spacing),
                ("B before", b_image, before, 1, split - low_b, b.volume.spacing),
                ("B after fine-tuning", b_image, after, 1, split - low_b, b.volume.spacing),
            ]
        )
        level = deep - head_b[2].start
        panels.append(
            [
                ("B: axial", b_image, None, 2, level, b.volume.spacing),
                ("B before", b_image, before, 2, level, b.volume.spacing),
                ("B after fine-tuning", b_image, after, 2, level, b.volume.spacing),
                ("B superclasses after", b_image, b.after.superclass[head_b], 2, level, b.volume.spacing),
            ]
        )
        picture.draw(self.out / "demo.png", tree, panels)

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        print(f"-> {title}", flush=True)
        began = time.monotonic()
        yield
        self.seconds[title] = time.monotonic() - began
        print(f"   {self.seconds[title]:.1f} s", flush=True)


def read_table(folder: Path) -> dict[str, Any]:
    """The demo's ``table.json``."""
    content: dict[str, Any] = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    return content
