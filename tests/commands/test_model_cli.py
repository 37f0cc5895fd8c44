"""Errors of densenet-model are one message."""

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", "nowhere", "x.png"], "x.png: there is no such file or folder"),
        (["predict", "nowhere", "."], "there is no image in it"),
        (["evaluate", "nowhere", "."], "nowhere: there is no such run"),
        (["gradients", "nowhere", "--images", "1"], "--images=1: must be 2 or more"),
        (["summary", "model=densenet_bc_1000"], "did you mean model=densenet_bc_100"),
        (["summary", "model=densenet_bc", "model.depth=11"], "model.depth=11"),
        (
            ["summary", "model=densenet_121", "--image-size", "8"],
            "images of 8 × 8 pixels are too small",
        ),
        (["summary", "."], ".: summary takes options of a network, as model=densenet_121"),
        (["lesions", "nowhere"], "nowhere: there is no such run"),
        (["lesions", "nowhere", "--format", "jpg"], "--format=jpg: must be one of"),
        (["saliency", "nowhere", "--pictures", "x.png"], "x.png: there is no such file or folder"),
        (["depth", "model=resnte"], "did you mean model=resnet"),
        (["depth", "model=plain model.depth=9"], "model.depth=9: must be 6n + 2"),
    ],
)
def test_errors_are_one_message(densenet_model, words, said):
    status, _, message = densenet_model(*words)
    assert status == 1
    assert said in message
    assert message.startswith("densenet-model: ")
    assert len(message.splitlines()) == 1
