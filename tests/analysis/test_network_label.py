"""Marks of networks on one figure: of one family, and before and after training."""

from matplotlib.colors import to_rgb

from densenet_cli.analysis.network_label import NetworkLabel, legend, marks
from densenet_cli.figures import style

DENSE = NetworkLabel("DenseNet-BC (L=22, k=12)", "DenseNet-BC")
WIDER = NetworkLabel("DenseNet-BC (L=22, k=24)", "DenseNet-BC")
RESIDUAL = NetworkLabel("ResNet-20", "ResNet")


def test_the_first_of_a_family_has_its_mark_and_others_have_marks_of_their_own():
    mark_of = marks([DENSE, WIDER, RESIDUAL])
    assert mark_of[DENSE] == style.FAMILIES["DenseNet-BC"]
    assert mark_of[RESIDUAL] == style.FAMILIES["ResNet"]
    assert len({(mark.colour, mark.marker) for mark in mark_of.values()}) == 3


def test_a_network_before_training_is_drawn_as_itself_but_pale_and_dotted():
    before = NetworkLabel("ResNet-20, untrained", "ResNet", RESIDUAL)
    mark_of = marks([RESIDUAL, before, WIDER])
    assert list(mark_of) == [RESIDUAL, before, WIDER]
    own, pale = mark_of[RESIDUAL], mark_of[before]
    assert (pale.marker, pale.line) == (own.marker, ":")
    for mixed, ink, paper in zip(*map(to_rgb, (pale.colour, own.colour, style.PAPER)), strict=True):
        assert abs(mixed - (ink + paper) / 2) < 0.01
    assert marks([before])[before] == pale
    assert [line.get_label() for line in legend(mark_of)][1] == "ResNet-20, untrained"
