"""A network run by OpenVINO on the CPU, with one thread or many, in float32.

Its shapes stay open, so that one conversion serves all tiles.  The trunk and the heads are two graphs: the trunk's
features go to the heads of those top-level nodes that can be present.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import warnings
from typing import Any, cast

import torch
from torch import nn

from hierseg.inference.forward import Ready, everything, has_branches, inference, logits
from hierseg.labeltree import LabelTree


def is_installed() -> bool:
    """Whether OpenVINO is there; nothing is imported."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoForward:
    """As :class:`~hierseg.inference.forward.Forward`; converts the network when it is made.

    Args:
        model: in evaluation mode, on the CPU; its weights are copied.
        tree: its label tree.
        spatial_dims: 2 or 3.

    Raises:
        ImportError: OpenVINO is not installed, or broken.
        RuntimeError: the network cannot be converted.
    """

    def __init__(self, model: nn.Module, tree: LabelTree, spatial_dims: int) -> None:
        self.selective = has_branches(model)
        self.everything = everything(tree) if self.selective else None
        self._flat, self._model = spatial_dims == 2, model
        channels = int(next(model.parameters()).shape[1])
        self._example = torch.zeros(1, channels, *[2 * int(getattr(model, "divisor", 16))] * spatial_dims)
        self._trunk: Any = _compiled(cast("nn.Module", model.trunk), self._example) if self.selective else None
        self._graphs: dict[tuple[int, ...] | None, Any] = {}
        self._graph(self.everything)

    def __call__(self, tiles: torch.Tensor, present: tuple[int, ...] | None = None) -> Ready:
        """As :class:`~hierseg.inference.forward.Forward`."""
        import openvino

        image = openvino.Tensor((tiles[..., 0] if self._flat else tiles).contiguous().numpy(), shared_memory=True)
        if self._trunk is not None:
            self._trunk.infer([image])
            image = self._trunk.get_output_tensor(0)
        graph = self._graph(present)
        graph.infer([image])
        # Of a network without superclass logits there is one output, the leaves'.
        found = [torch.from_numpy(output.data) for output in graph.output_tensors]
        *top, leaf = [part[..., None] for part in found] if self._flat else found
        return Ready(top[0] if top else None, leaf)

    def _graph(self, present: tuple[int, ...] | None) -> Any:
        """What makes logits of these top-level nodes, from the trunk's features or from the image."""
        if present not in self._graphs:
            with inference():
                if self._trunk is None:
                    self._graphs[present] = _compiled(_Whole(self._model), self._example)
                else:
                    features = cast("nn.Module", self._model.trunk)(self._example)
                    self._graphs[present] = _compiled(_Heads(cast("nn.Module", self._model.heads), present), features)
        return self._graphs[present]


@functools.cache
def _core() -> Any:
    """The only one of this process, kept to its end.

    Its CPU plugin gives the thread a stack for signal handlers and takes it back when it goes.  Of several plugins that go in
    another order than they came, the last one puts the stack of one that is gone in place: the next signal that Python
    handles (a child's end, Ctrl-C) is then the end of the process.
    """
    import openvino

    return openvino.Core()


class _Whole(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _outputs(self.model(x))


class _Heads(nn.Module):
    def __init__(self, heads: nn.Module, present: tuple[int, ...] | None) -> None:
        super().__init__()
        self.heads, self.present = heads, present

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _outputs(self.heads(features, self.present))


def _outputs(output: Any) -> tuple[torch.Tensor, ...]:
    """Leaf logits, after superclass logits if there are any."""
    return tuple(part for part in logits(output) if part is not None)


def _compiled(module: nn.Module, example: torch.Tensor) -> Any:
    """A request that runs a module; batch and edges stay open."""
    import openvino

    with inference(), warnings.catch_warnings():
        # What tracing warns of are sizes that it takes as given: multiples of the divisor all go the same way.
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            traced = torch.jit.trace(module.eval(), example.clone(), check_trace=False)
            shape = openvino.PartialShape([-1, example.shape[1], *[-1] * (example.ndim - 2)])
            graph = openvino.convert_model(traced, input=[shape])
        finally:
            logging.disable(before)
    settings = {
        # Elsewhere bfloat16 is the default, whose results differ from processor to processor.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,
    }
    return _core().compile_model(graph, "CPU", settings).create_infer_request()
