"""Networks with auxiliary classifiers: their loss, metrics, recordings and gradients."""

import pytest
import torch
from test_recorded_step import TINY, Trained, assert_equal, train_as_on_a_gpu
from torch import nn
from torch.nn.functional import cross_entropy

from densenet_cli.analysis.gradients.gradient_norms import gradient_norms
from densenet_cli.training import auxiliary
from densenet_cli.training.classifier import ImageClassifier
from densenet_cli.training.cuda_graphs import CudaGraphs
from densenet_cli.training.graph_recording import WARM_UP
from densenet_cli.training.losses import Loss


class TwoClassifiers(nn.Module):
    """A network with one auxiliary classifier."""

    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Conv2d(3, 4, kernel_size=3, stride=2)
        self.auxiliary = nn.Linear(4, num_classes)
        self.second = nn.Conv2d(4, 6, kernel_size=3)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, images):
        maps = self.first(images).relu()
        logits = self.fc(self.second(maps).relu().mean((2, 3)))
        return torch.stack([logits, self.auxiliary(maps.mean((2, 3)))]) if self.training else logits


def test_the_loss_is_that_of_the_paper():
    outputs, labels = torch.randn(3, 8, 5, requires_grad=True), torch.arange(8) % 5
    own, minimised = auxiliary.losses(outputs, labels, Loss(label_smoothing=0.1))
    each = [cross_entropy(one, labels, label_smoothing=0.1) for one in outputs]
    torch.testing.assert_close(own, each[0])
    torch.testing.assert_close(minimised, each[0] + 0.3 * each[1] + 0.3 * each[2])  # section 5
    assert torch.equal(auxiliary.logits(outputs), outputs[0])
    plain = auxiliary.losses(outputs[0], labels)
    assert plain[0] is plain[1]
    assert auxiliary.logits(outputs[0]).shape == (8, 5)


def test_metrics_count_the_networks_own_logits_only():
    classifier = ImageClassifier(TwoClassifiers(10), torch.optim.SGD, None, 10)
    images, labels = torch.randn(8, 3, 9, 9), torch.arange(8)
    outputs = classifier(images)
    loss = classifier.training_step((images, labels), 0)
    torch.testing.assert_close(
        loss, cross_entropy(outputs[0], labels) + 0.3 * cross_entropy(outputs[1], labels)
    )
    counted = classifier.train_metrics.compute()
    torch.testing.assert_close(counted["loss"], cross_entropy(outputs[0], labels).detach())
    wrong = (outputs[0].argmax(1) != labels).double().mean()
    assert float(counted["error"]) == pytest.approx(100 * float(wrong))
    classifier.eval().test_step((images, labels), 0)
    torch.testing.assert_close(classifier.test_metrics.compute()["loss"], counted["loss"])


def test_a_recorded_pass_gives_the_outputs_of_all_classifiers(graphs_made):
    network = TwoClassifiers(10)
    graphs, images = CudaGraphs(network), torch.randn(4, 3, 9, 9)
    for _ in range(WARM_UP + 2):
        found = graphs(images)
    assert graphs_made[0].replays == 2
    assert found.requires_grad
    assert torch.equal(found, network(images))
    with torch.inference_mode():
        network.eval()
        assert graphs(images).shape == (4, 10)


def test_a_resumed_run_of_recorded_steps_gives_the_same_bits(
    config, graphs_made, monkeypatch, tmp_path
):
    train_as_on_a_gpu(monkeypatch)
    options = config(*TINY, "trainer.precision=32-true")
    options["model"] = {"_target_": "test_auxiliary.TwoClassifiers"}
    plain = Trained(options, tmp_path / "plain", recorded=False)
    earlier = tmp_path / "plain/earlier.ckpt"
    recorded = Trained(options, tmp_path / "recorded", recorded=True, resume_from=earlier)
    assert any(type(graph).__name__ == "FakeStep" and graph.replays for graph in graphs_made)
    assert_equal(plain.state(), recorded.state())


def test_gradients_are_those_of_the_loss_that_is_minimised():
    network = TwoClassifiers(10).train()
    images, labels = torch.randn(8, 3, 9, 9), torch.arange(8)
    found = {layer.name: layer for layer in gradient_norms(network, [(images, labels)])}
    assert found.keys() == {"first", "second", "fc", "auxiliary"}
    auxiliary.losses(network(images), labels)[1].backward()
    for name, layer in found.items():
        gradient = network.get_submodule(name).weight.grad
        assert layer.weight == pytest.approx(float(gradient.norm()), rel=1e-5)
