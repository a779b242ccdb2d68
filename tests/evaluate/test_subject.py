"""Any encoder can be evaluated: a weights file, a library's name; what does not fit is named."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

import squint
from squint import runs
from squint.configs import EncoderConfig
from squint.data import open_source
from squint.errors import CheckpointError, RunError
from squint.evaluate import compression
from squint.evaluate.bench import Bench
from squint.evaluate.options import Options, SubjectOptions
from squint.evaluate.protocols import evaluate
from squint.evaluate.subject import open_subject
from squint.interop.encoder import load
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
    names = {"safetensors": "w.safetensors", "moco": "checkpoint_0199.pth.tar"}
    path = tmp_path / names.get(form, "last.ckpt" if form == "trainer" else "w.pth")
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


@pytest.mark.parametrize("name", ["simclr", "c-moco-v2"])
def test_all_that_is_read_of_a_run_is_of_one_step(tmp_path: Path, name: str) -> None:
    source = small.source(tmp_path)
    both = [
        squint.pretrain(
            source,
            recipe=small.recipe(name, train__epochs=epochs),
            out=tmp_path / str(epochs),
            quiet=True,
        )
        for epochs in (0.5, 1.0)
    ]
    early, late = (open_subject(run) for run in both)
    with both[1].encoder.open("rb") as file:  # what earlier versions noted
        assert late.weights == hashlib.file_digest(file, "sha256").hexdigest()[:16]
    assert late.weights != early.weights and late.encoder.views == load(both[1]).views
    bits = safetensors.torch.load_file(both[1].encoder)
    for key, value in late.encoder.encoder.state_dict().items():
        assert torch.equal(value, bits[key])

    shutil.copy(both[1].checkpoint, both[0].checkpoint)  # killed before encoder.safetensors
    between = open_subject(both[0])
    assert between.weights == late.weights and between.described()["step"] == 6
    both[0].checkpoint.unlink()  # or written anew
    bench = Bench(between, open_source(source), torch.device("cpu"), Options())
    method = compression.method_of(bench, "compression")
    for key, value in method.encoder.state_dict().items():
        assert torch.equal(value, bits[key])


def test_a_checkpoint_given_for_its_run_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.create(tmp_path / "run", small.recipe(), source="demo", derived={})
    run.checkpoint.write_bytes(b"")
    for given in (SubjectOptions(), SMALL):
        with pytest.raises(RunError, match=rf"of the run {run.path}, .* Give the run, {run.path}:"):
            open_subject(run.checkpoint, given)
    monkeypatch.chdir(run.checkpoint.parent)
    with pytest.raises(RunError, match=rf"last.pt is a checkpoint of the run {run.path}, "):
        open_subject("last.pt")


def test_a_checkpoint_of_another_recipe_is_named(tmp_path: Path) -> None:
    source, recipe = small.source(tmp_path), small.recipe(train__epochs=0.5)
    run = squint.pretrain(source, recipe=recipe, out=tmp_path / "run", quiet=True)
    path = run.path / "recipe.json"
    path.write_text(path.read_text().replace('"width": 0.125', '"width": 0.25'))
    with pytest.raises(CheckpointError, match=r"last\.pt does not fit its recipe"):
        open_subject(run)


def test_a_name_without_weights_is_evaluated_into_a_file_of_ones_choice(tmp_path: Path) -> None:
    out = tmp_path / "here.json"
    given = SubjectOptions(size=32)
    table = evaluate(
        "timm:resnet10t", data=small.source(tmp_path), protocols=("knn",), subject=given, out=out
    )
    written = json.loads(out.read_text())
    assert written == table and "random" not in table["results"]["knn_top1"]
    with pytest.raises(RunError, match="compression"):
        evaluate(
            "timm:resnet10t",
            data=small.source(tmp_path),
            protocols=("compression",),
            subject=given,
            out=out,
        )
    with pytest.raises(RunError, match="--data"):
        evaluate("timm:resnet10t", subject=given, out=out)
