"""Any encoder can be evaluated: a weights file, a library's name; what does not fit is named."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from squint.configs import EncoderConfig
from squint.errors import CheckpointError, RunError
from squint.evaluate.options import SubjectOptions
from squint.evaluate.protocols import evaluate
from squint.evaluate.subject import open_subject
from squint.interop.inputs import own_input
from train import small

SMALL = SubjectOptions(encoder="timm/resnet10t", size=32)


def model() -> torch.nn.Module:
    torch.manual_seed(1)
    return timm.create_model("resnet10t", num_classes=5).eval()


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("form", ["safetensors", "plain", "trainer", "moco"])
def test_files_as_people_save_them_give_the_model_back(tmp_path: Path, form: str) -> None:
    original = model()
    state = original.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    elif form == "plain":
        torch.save(state, path)
    elif form == "trainer":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        query = {f"module.encoder_q.{k}": v for k, v in state.items()}
        key = {f"module.encoder_k.{k}": v + 1 for k, v in state.items()}
        torch.save({"state_dict": key | query | {"module.queue": torch.zeros(3)}}, path)
    subject = open_subject(path, SMALL)
    with torch.no_grad():
        expected = original.forward_head(original.forward_features(images()), pre_logits=True)
        torch.testing.assert_close(subject.encoder(images()), expected)
    assert subject.out == tmp_path / "evaluation.json"


def test_the_wrong_architecture_is_named_with_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(model().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"does not fit timm/resnet18.*missing.*layer1\.1"):
        open_subject(path, SubjectOptions(encoder="timm/resnet18"))
    with pytest.raises(RunError, match="--encoder"):
        open_subject(path)
    torch.save(model(), path)
    with pytest.raises(CheckpointError, match="never run"):
        open_subject(path, SMALL)


def test_input_is_what_the_library_feeds_the_model() -> None:
    cfg = timm.get_pretrained_cfg("vit_small_patch16_224")
    views = own_input(EncoderConfig(name="timm/vit_small_patch16_224"))
    assert views.mean == cfg.mean == (0.5, 0.5, 0.5)
    assert views.evaluation.crop == cfg.crop_pct and views.evaluation.interpolation == "bicubic"
    views = own_input(EncoderConfig(name="torchvision/resnet50"))
    assert (views.evaluation.size, views.evaluation.interpolation) == (224, "bilinear")
    assert views.evaluation.crop == pytest.approx(224 / 232)


def test_a_name_without_weights_is_evaluated_into_a_file_of_ones_choice(tmp_path: Path) -> None:
    out = tmp_path / "here.json"
    given = SubjectOptions(size=32, out=str(out))
    table = evaluate(
        "timm:resnet10t", data=small.source(tmp_path), protocols=("knn",), subject=given
    )
    written = json.loads(out.read_text())
    assert written == table and "random" not in table["results"]["knn_top1"]
    with pytest.raises(RunError, match="compression"):
        evaluate(
            "timm:resnet10t", data=small.source(tmp_path), protocols=("compression",), subject=given
        )
    with pytest.raises(RunError, match="--data"):
        evaluate("timm:resnet10t", subject=given)
