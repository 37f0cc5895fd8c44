"""densenet-model export: files give the logits of the network."""

import json

import pytest
import torch

from densenet_cli.data.photo import read_rgb
from densenet_cli.inference import trained_network


@pytest.mark.parametrize("form", ["onnx", "torch-export", "safetensors"])
def test_exported_files_give_the_logits_of_the_network_for_batches_of_any_size(
    trained_run, densenet_model, tmp_path, form, recwarn
):
    folder, photos = trained_run
    pytest.importorskip({"onnx": "onnxruntime"}.get(form, "torch"))
    path = tmp_path / "network.file"
    status, out, message = densenet_model(
        "export", folder, "--format", form, "--output", path, "--check", photos / "test"
    )
    assert status == 0, message
    assert "on 21 images" in out
    assert not [str(one.message) for one in recwarn if "complete tensor" in str(one.message)]
    network = trained_network.load(folder, "cpu")
    image = read_rgb(photos / "test" / "sea" / "1.png")[:16, :16][None]
    expected = network.logits(image)
    inputs = network.inputs(image)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        found = torch.from_numpy(session.run(None, {"images": inputs.contiguous().numpy()})[0])
        known = session.get_modelmeta().custom_metadata_map
    elif form == "torch-export":
        extra = {"metadata.json": ""}
        found = torch.export.load(path, extra_files=extra).module()(inputs).detach()
        known = json.loads(extra["metadata.json"])
    else:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            known = file.metadata()
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network.network.load_state_dict(weights)
        found = network.network(inputs).detach()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert json.loads(known["class_names"]) == ["grass", "sea", "stone"]
    assert json.loads(known["mean"]) == pytest.approx([0.485, 0.456, 0.406])
