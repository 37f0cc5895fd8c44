"""Networks on one figure: those of a family, and what they were before training."""

from matplotlib.colors import to_rgb

from densenet_cli.analysis.network_label import Subject, legend, marks
from densenet_cli.figures import style

DENSE = Subject("DenseNet-BC (L=22, k=12)", "DenseNet-BC")
WIDER = Subject("DenseNet-BC (L=22, k=24)", "DenseNet-BC")
RESIDUAL = Subject("ResNet-20", "ResNet")


def test_the_first_of_a_family_has_its_mark_and_others_have_marks_of_their_own():
    looks = marks([DENSE, WIDER, RESIDUAL])
    assert looks[DENSE] == style.FAMILIES["DenseNet-BC"]
    assert looks[RESIDUAL] == style.FAMILIES["ResNet"]
    assert len({(mark.colour, mark.marker) for mark in looks.values()}) == 3


def test_a_network_before_training_is_drawn_as_itself_but_pale_and_dotted():
    before = Subject("ResNet-20, untrained", "ResNet", RESIDUAL)
    looks = marks([RESIDUAL, before, WIDER])
    assert list(looks) == [RESIDUAL, before, WIDER]
    own, pale = looks[RESIDUAL], looks[before]
    assert (pale.marker, pale.line) == (own.marker, ":")
    for mixed, ink, paper in zip(*map(to_rgb, (pale.colour, own.colour, style.PAPER)), strict=True):
        assert abs(mixed - (ink + paper) / 2) < 0.01
    assert marks([before])[before] == pale
    assert [line.get_label() for line in legend(looks)][1] == "ResNet-20, untrained"
