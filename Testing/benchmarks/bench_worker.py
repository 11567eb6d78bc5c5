"""What a warm worker costs beside the prediction itself: seconds and bytes on the way to it and back.

    make bench ARGS="worker [--size 256] [--runs 5]"

An image in memory, ordered as Slicer orders its voxels, is segmented again and again by one worker, through the client that the
module uses.  The network marks a bright ball (its weights are set by hand), so that the answer has a form; what the
predictor's own stages take (preprocess, network, decode, restore) is subtracted.  Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.inference.benchmark import environment, spread
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.launch import environment as worker_environment
from HierSubclassSegLib.compute.launch import worker_command
from HierSubclassSegLib.compute.prepare import ImageArray
from HierSubclassSegLib.compute.transport import SubprocessTransport
from standins.threshold_bundle import BRIGHT, write_threshold_bundle

_PREDICTOR = ("preprocess", "network", "decode", "restore")


class Counting(SubprocessTransport):
    """Counts the bytes of both directions."""

    sent = received = 0

    def write(self, data: bytes | memoryview) -> None:
        """Count and queue."""
        self.sent += memoryview(data).nbytes
        super().write(data)

    def _deliver(self, event: Any) -> None:
        if event[0] == "out":
            self.received += len(event[1])
        super()._deliver(event)


def ball(size: int, radius: float, seed: int) -> np.ndarray:
    """int16 ``(x, y, z)`` in vtk's order of memory (x fastest): a bright ball in dark noise; ``radius`` as a share of the edge."""
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    inside = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2 < (radius * size) ** 2
    noise = np.random.default_rng(seed).integers(0, BRIGHT // 4, inside.shape, dtype=np.int16)
    return np.asfortranarray(np.where(inside, np.int16(BRIGHT), noise))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="edge of the image (default: 256)")
    parser.add_argument(
        "--radius", type=float, default=0.25, help="of the ball, as a share of the edge (default: 0.25)"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    images = [ball(arguments.size, arguments.radius, arguments.seed + run) for run in range(arguments.runs + 1)]
    rows: dict[str, list[dict[str, float]]] = {"the same image": [], "another image": []}
    with tempfile.TemporaryDirectory() as folder:
        # No resampling and large tiles: the less the prediction itself takes, the better the rest is seen.
        bundle = write_threshold_bundle(Path(folder) / "ball", patch_size=[128, 128, 128])
        transport = Counting(worker_command(), worker_environment())
        with WorkerClient(transport) as client:
            client.predict([ImageArray(images[0], np.eye(4))], bundle)
            for run in range(arguments.runs):
                for kind, image in (("the same image", images[run]), ("another image", images[run + 1])):
                    print(f"bench worker: {kind}, run {run + 1} of {arguments.runs}", file=sys.stderr)
                    transport.sent = transport.received = 0
                    began = time.perf_counter()
                    result = client.predict([ImageArray(image, np.eye(4))], bundle)
                    total = time.perf_counter() - began
                    own = sum(result.stages[stage] for stage in _PREDICTOR)
                    marked = int((result.labels != 0).sum())
                    rows[kind].append({
                        "total_s": total, "predictor_s": own, "overhead_s": total - own,
                        "sent_bytes": transport.sent, "received_bytes": transport.received, "marked_voxels": marked,
                    })  # fmt: skip
    report = {
        "benchmark": "worker",
        **environment(None, arguments.seed),
        "image": {"shape": [arguments.size] * 3, "dtype": "int16", "ball": arguments.radius},
        "runs": arguments.runs,
        "requests": {
            kind: {name: spread([row[name] for row in found]) for name in found[0]} for kind, found in rows.items()
        },
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
