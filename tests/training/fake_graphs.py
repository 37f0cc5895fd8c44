"""Graphs on the CPU: instead of replaying what was recorded, they compute it again."""

import torch

from densenet_cli.training import cuda_graphs, graph_recording, recorded_step
from densenet_cli.training.graph_recording import Recorder


class FakeGraph:
    """A graph whose replay computes the pass again, into the same memory."""

    def __init__(self, compute):
        self.compute, self.replays = compute, 0
        self.result = compute()

    def replay(self):
        self.replays += 1
        with torch.no_grad():
            self.result.copy_(self.compute())


class FakeStep(FakeGraph):
    """A graph of a whole training step, whose recording changes nothing, as on a GPU.

    Since a real one would know no other addresses, its tensors must be the recorded ones.
    """

    def __init__(self, compute):
        self.step = compute.__self__
        self.tensors, self.rates = self._tensors(), self._rates()
        before = [tensor.detach().clone() for tensor in self.tensors]
        super().__init__(compute)
        with torch.no_grad():
            for tensor, value in zip(self.tensors, before, strict=True):
                tensor.copy_(value)

    def replay(self):
        self.replays += 1
        pairs = zip(self.tensors, self._tensors(), strict=True)
        assert all(one is other for one, other in pairs)
        assert self.step.addresses.are_valid()
        for rate, now in zip(self.rates, self._rates(), strict=True):
            assert rate is now or rate == torch.tensor(now)
        result = self.compute()
        if result is not None:
            self.result.copy_(result)

    def _rates(self):
        return [group["lr"] for group in self.step.optimizer.param_groups]

    def _tensors(self):
        step = self.step
        return [
            *step.network.parameters(),
            *step.network.buffers(),
            *(state["momentum_buffer"] for state in step.optimizer.state.values()),
            *(getattr(metric, name) for metric, name, _ in step.metrics._states),
            *(tensor for work in step.ends_with for tensor in work.__self__._averages.values()),
        ]


def record_on_the_cpu(patch):
    """Let passes and steps be recorded on the CPU; returns the list that all their graphs go to.

    Args:
        patch: a MonkeyPatch of pytest.
    """
    made = []

    def record(recorder, compute):
        is_step = isinstance(getattr(compute, "__self__", None), recorded_step._Recording)
        graph = (FakeStep if is_step else FakeGraph)(compute)
        made.append(graph)
        return graph.result, graph

    for module in (cuda_graphs, recorded_step):
        patch.setattr(module, "can_be_recorded", lambda device: True)
    patch.setattr(Recorder, "record", record)
    patch.setattr(Recorder, "_leave", lambda *what: None)
    patch.setattr(graph_recording, "_current_stream", lambda device: None)
    patch.setattr(graph_recording, "_held", lambda device: 1000 * len(made))
    patch.setattr(graph_recording, "_free", lambda device: 10_000)
    patch.setattr(torch.cuda, "graph_pool_handle", object)
    patch.setattr(torch.cuda, "Stream", lambda device: None)
    return made
