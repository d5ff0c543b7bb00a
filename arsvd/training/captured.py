"""A training step as one CUDA graph: one launch by the host instead of a hundred."""

import functools

import torch

from arsvd.training.step import StepInputs, TrainingStep

# Steps before the capture, on the same stream: after them libraries have their handles, and the workspaces
# that they keep for each stream.
WARM_UP = 3


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of a device on which steps are prepared and captured.

    Each stream that multiplies matrices gets cuBLAS workspaces (32 MiB per handle on Hopper) that torch does
    not free with the stream, so all trainings share one. Graphs captured on it share its workspaces and must
    not be replayed side by side. They never are: only one graph exists at a time, that of the training.
    """
    return torch.cuda.Stream(device)


class StaticStep:
    """A training step that always reads its inputs from the same memory.

    Args:
        step: training step to run.
    """

    def __init__(self, step: TrainingStep) -> None:
        self._step = step
        self._inputs: StepInputs | None = None

    def __call__(self, inputs: StepInputs) -> None:
        """Copy the inputs to their places and run the step."""
        self._place(inputs)
        self._run()

    def _place(self, inputs: StepInputs) -> None:
        if self._inputs is None:
            drawn = {name: tensor.clone() for name, tensor in inputs.drawn.items()}
            self._inputs = StepInputs(inputs.chosen.clone(), drawn, inputs.coefficients.clone())
            return
        self._inputs.chosen.copy_(inputs.chosen)
        self._inputs.coefficients.copy_(inputs.coefficients)
        for name, place in self._inputs.drawn.items():
            place.copy_(inputs.drawn[name])

    def _run(self) -> None:
        if self._inputs is not None:
            self._step(self._inputs)


class CapturedStep(StaticStep):
    """Captures the step after a few that run as usual, and replays it from then on.

    The first steps are steps of the training like all others: nothing is done twice. Everything that the step
    changes (weights, moments, losses, what methods keep) and reads (images, teacher, random counters) must
    stay where it is; only the inputs and what `Draws.at` sets differ between replays. The step's device must
    be the current one.
    """

    def __init__(self, step: TrainingStep) -> None:
        super().__init__(step)
        self._side = _side_stream(step.losses.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._done = 0

    def _run(self) -> None:
        if self._graph is not None:
            self._graph.replay()
            return
        if self._done < WARM_UP:
            self._done += 1
            # capture happens on a side stream, so the steps that prepare it must run there too
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side):
                super()._run()
            torch.cuda.current_stream().wait_stream(self._side)
            return
        graph = torch.cuda.CUDAGraph()
        # the outer context is for errors: a capture that cannot be ended leaves its stream as the current one
        with torch.cuda.stream(self._side), torch.cuda.graph(graph, stream=self._side):
            super()._run()  # recorded, not executed
        self._graph = graph
        graph.replay()
