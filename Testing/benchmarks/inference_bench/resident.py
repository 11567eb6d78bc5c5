"""What a warm worker adds to a prediction: the shipped start model, a head-sized image, the module's own client.

The first prediction starts the worker, loads the model and measures how to run it; later ones find all of that ready.
``overhead`` is the client's time without the stages that the worker reports: hashing, messages, arrays through pipes.
"""

from __future__ import annotations

import time
from typing import Any

from hierseg import resources
from hierseg.inference.benchmark import generated_image, spread
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.launch import environment, worker_command
from HierSubclassSegLib.compute.transport import SubprocessTransport

_MODEL = "brain-start"


def measured(seed: int, *, edge: int = 192, runs: int = 5) -> dict[str, Any]:
    """Time one cold prediction, warm ones of the same image, and one of another image.

    Args:
        seed: of the images.
        edge: of the images, voxels of 1 mm.
        runs: warm predictions of the same image.
    """
    bundle = resources.path("models", _MODEL)
    images = [generated_image(edge, seed + number) for number in range(2)]
    began = time.perf_counter()
    with WorkerClient(SubprocessTransport(worker_command(), environment())) as client:
        rows = []
        for number in (*[0] * (runs + 1), 1):
            image = images[number]
            rows.append(_timed(client, (image.array, image.affine), bundle, began if not rows else None))
    same = rows[1 : runs + 1]
    return {
        "title": f"{_MODEL}, {edge}³ voxels of 1 mm",
        "first": rows[0],
        "warm": {name: spread([row[name] for row in same]) for name in ("total_s", "overhead_s", "load_model_s")},
        "another_image": rows[-1],
    }


def _timed(client: WorkerClient, image: Any, bundle: Any, began: float | None) -> dict[str, float]:
    start = time.perf_counter() if began is None else began
    result = client.predict([image], bundle, device="cpu")
    total = time.perf_counter() - start
    return {
        "total_s": round(total, 4),
        "overhead_s": round(total - sum(result.stages.values()), 4),
        "load_model_s": round(result.stages["load model"], 4),
    }
