"""The real worker with one part that misbehaves: ``python odd_worker.py MODE``.

Only the work of "predict" is replaced (and, to be quick, the import of torch by "hello"); streams, threads, watchdog
and answers are the shipped ones.  This is how an image library, a driver or the kernel may behave; no bundle can.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

from hierseg.worker import server, store, tasks
from hierseg.worker.protocol import PROTOCOL_VERSION
from standins.tiny_bundle import TREE

STORE = store.Store()
FORGOTTEN: list[str] = []


def noisy(job: tasks.Job) -> None:
    """Write to stdout in every way that there is, also from C and from a child, then answer."""
    print("python prints")
    sys.__stdout__.write("the original stdout is used\n")
    sys.__stdout__.flush()
    os.write(1, b"descriptor 1 is written to\n" * 5)
    libc = ctypes.CDLL(None)
    libc.puts(b"C prints")
    libc.fflush(None)
    subprocess.run([sys.executable, "-S", "-c", "print('a child prints')"], check=True)
    warnings.warn("a library warns")
    sys.stderr.write("\r 10%\r 50%\r100%\n")
    # Whoever reads stdin gets nothing, and takes no message away.
    assert os.read(0, 100) == b""
    answer(job)


def answer(job: tasks.Job) -> None:
    fields = {"bundle": "any", "tree": {}, "config": {}, "warm": False, "seconds": 0.0}
    job.answer("loaded", fields, {"array": np.arange(1000)})


def stuck(job: tasks.Job) -> None:
    """Ignore the cancel, with a child that would live on."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    job.answer("progress", {"stage": f"child {child.pid}", "fraction": 0.0, "seconds_left": None})
    time.sleep(600)


def holds_the_interpreter(job: tasks.Job) -> None:
    """C code that never lets another Python thread run (PyDLL keeps the interpreter's lock)."""
    job.answer("progress", {"stage": "hold", "fraction": 0.0, "seconds_left": None})
    time.sleep(1.0)  # until the answer is on its way
    ctypes.PyDLL(None).sleep(600)


def out_of_memory(_: tasks.Job) -> None:
    np.empty(1 << 60, dtype=np.uint8)


def cuda_out_of_memory(_: tasks.Job) -> None:
    import torch

    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 7.40 GiB. GPU 0 has a total capacity of 3.9 GiB."
    )


def unexpected(_: tasks.Job) -> None:
    raise KeyError("nobody thought of this")


def dies(_: tasks.Job) -> None:
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
    sys.stderr.flush()
    os.abort()


def garbage(_: tasks.Job) -> None:
    """Write past the protection, as only this test can: to the private descriptor of the messages."""
    for descriptor in range(3, 30):
        try:
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:"):
                os.write(descriptor, b"Segmentation finished.\n" * 3)
        except OSError:
            continue


def forgetful(job: tasks.Job) -> None:
    """Have forgotten the images when they are first asked for, then answer with them."""
    hash_ = job.message.get("images")[0]["hash"]
    if not FORGOTTEN:
        FORGOTTEN.append(hash_)
        STORE.clear()
    image = STORE.array(hash_)
    whole = {"shape": list(image.shape), "start": [0, 0, 0], "fill": 0}
    fields = {"affine": np.eye(4).tolist(), "tree": TREE, "bundle": "any", "stages": {}, "warm": True}
    job.answer(
        "result",
        {**fields, "crops": {"labels": whole, "confidence": whole}},
        {"labels": image, "confidence": image},
    )


def not_json(job: tasks.Job) -> None:
    job.answer("result", {"affine": float("nan")})


MODES: dict[str, Callable[[tasks.Job], None]] = {
    mode.__name__: mode
    for mode in (
        noisy,
        stuck,
        holds_the_interpreter,
        out_of_memory,
        cuda_out_of_memory,
        unexpected,
        dies,
        garbage,
        forgetful,
        not_json,
    )
}


def light_hello(_: tasks.Tasks, job: tasks.Job) -> None:
    job.answer(
        "hello", {"protocol": int(os.environ.get("ODD_PROTOCOL", PROTOCOL_VERSION)), "pid": os.getpid(), "bundles": []}
    )


if __name__ == "__main__":
    mode = MODES[sys.argv[1]]
    server.Store = lambda: STORE  # type: ignore[misc, assignment]
    tasks.Tasks.hello = light_hello  # type: ignore[method-assign]
    tasks.Tasks.predict = lambda _, job: mode(job)  # type: ignore[method-assign, assignment]
    sys.exit(server.serve())
