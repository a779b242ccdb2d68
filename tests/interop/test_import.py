"""Weights of other training scripts become a pair that Squint reads like its own."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor

import squint
from squint.cli import main
from squint.configs import EncoderConfig
from squint.errors import CheckpointError, RunError
from squint.interop.importing import import_weights
from squint.nn import encoders
from train import small


def state_of(name: str = "resnet18", **settings: object) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return encoders.build(name, **settings).state_dict()  # pyright: ignore[reportArgumentType]


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def one(*names: str) -> dict[str, Tensor]:
    return {name: torch.zeros(1) for name in names}


def refused(capsys: pytest.CaptureFixture[str], command: str) -> str:
    assert main(["import", *command.split()]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("prefix", "heads", "origin", "ignored"),
    [
        (
            "module.encoder_q.",
            ["module.encoder_q.fc.0.weight", "module.encoder_q.fc.2.weight", "module.queue"],
            "MoCo v2 checkpoint, encoder_q",
            "3 of other names ignored: module.encoder_q.fc.*, module.queue",
        ),
        (
            "module.encoder_q.",
            ["module.encoder_q.fc.weight", "module.encoder_k.conv1.weight"],
            "MoCo v1 checkpoint, encoder_q",
            "2 of other names ignored: module.encoder_q.fc.*, module.encoder_k.*",
        ),
        (
            "module.base_encoder.",
            ["module.base_encoder.fc.0.weight", "module.predictor.0.weight"],
            "MoCo v3 checkpoint, base_encoder",
            "module.base_encoder.fc.*, module.predictor.*",
        ),
        ("backbone.", ["projector.0.weight"], "solo-learn checkpoint, backbone", "projector.*"),
        (
            "backbone.",
            ["projection_head.layers.0.weight"],
            "lightly checkpoint, backbone",
            "projection_head.*",
        ),
        ("", ["fc.weight", "fc.bias"], "tensors by the network's names", "2 of other names"),
        ("module.backbone.", ["module.projector.0.weight"], "script, backbone", "projector.*"),
    ],
)
def test_the_origin_is_named_and_every_tensor_counted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    prefix: str,
    heads: list[str],
    origin: str,
    ignored: str,
) -> None:
    state = state_of("resnet10", width=0.125)
    file, out = tmp_path / "w.pth.tar", tmp_path / "mine.safetensors"
    torch.save({"epoch": 3, "state_dict": under(prefix, state) | one(*heads)}, file)
    assert main(["import", str(file), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert origin in text and "resnet10, width 0.125, by its names and shapes" in text
    assert f"{len(state)} of {len(state)} tensors loaded; " in text and ignored in text
    loaded = squint.load_encoder(out).encoder.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    ("name", "settings"),
    [("resnet18", {"stem": "cifar"}), ("resnet34", {"width": 0.25}), ("resnet50", {})],
)
def test_a_resnet_is_recognised(tmp_path: Path, name: str, settings: dict[str, object]) -> None:
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(under("module.", state_of(name, **settings)), file)
    done = import_weights(file, out=tmp_path / "e.safetensors")
    assert done.encoder.config == EncoderConfig(name=name, **settings)  # pyright: ignore
    assert done.encoder.views.evaluation.size == (32 if settings.get("stem") else 224)


def test_a_sequential_backbone_of_lightly_is_recognised(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18()
    backbone = torch.nn.Sequential(*list(theirs.children())[:-1])
    torch.save({"state_dict": under("backbone.", backbone.state_dict())}, tmp_path / "l.ckpt")
    done = import_weights(tmp_path / "l.ckpt", out=tmp_path / "e.safetensors")
    assert done.counts == "120 of 120 tensors loaded"
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(done.encoder(images), backbone.eval()(images).flatten(1))


def test_an_import_is_evaluated_embedded_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = torchvision.models.mobilenet_v3_small().eval()
    torch.save(model.state_dict(), "w.pth")
    name = "torchvision/mobilenet_v3_small"
    command = f"import w.pth --encoder {name} --size 32 --out e.safetensors"
    assert main(command.split()) == 0
    assert "576 features" not in capsys.readouterr().out, "its classifier has a hidden layer"
    card = json.loads(Path("e.json").read_text())
    assert card["input"]["size"] == 32 and set(card["load"]) == {"squint", "torchvision"}
    data = small.source(tmp_path)
    assert main(["evaluate", "e.safetensors", "--data", data, "--protocols", "knn"]) == 0
    assert main(["embed", "e.safetensors", "--data", data, "--out", "f.npz"]) == 0
    assert main("export e.safetensors --format torchvision --out back.pth".split()) == 0
    back = torch.load("back.pth", weights_only=True)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in back.items())


def test_counters_that_older_files_lack_are_told(tmp_path: Path) -> None:
    state = {k: v for k, v in state_of().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    done = import_weights(tmp_path / "old.pth", out=tmp_path / "e.safetensors")
    assert done.counts.startswith("100 of 120 tensors loaded (the other 20 count batches")


def test_a_stem_that_pads_otherwise_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = under("backbone.", state_of(stem="cifar", width=0.25)) | one("classifier.weight")
    torch.save({"state_dict": state}, tmp_path / "solo.ckpt")
    out = str(tmp_path / "e.safetensors")
    assert main(["import", str(tmp_path / "solo.ckpt"), "--out", out]) == 0
    assert "pads its cifar stem by 2 px, Squint by 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("none.pth --out e.safetensors", "There is no none.pth"),
        (". --out e.safetensors", "is a folder"),
        ("w.pth --out e.pth", "must end in .safetensors"),
        ("w.pth --out no/e.safetensors", "does not exist. Make it first"),
        ("w.pth --out there.safetensors", "there.safetensors is there already"),
        ("w.pth --out beside.safetensors", "beside.json is there already"),
        ("w.pth --out e.safetensors --width 2", "name it with --encoder"),
        ("w.pth --out e.safetensors --encoder resnet34", "does not fit resnet34"),
        ("w.pth --out e.safetensors --encoder resnet5O", "Did you mean resnet50"),
        ("w.pth --out e.safetensors --size 0", "size=0"),
        ("vit.pth --out e.safetensors", "no plain ResNet's. Name it: --encoder"),
        ("gray.pth --out e.safetensors", "1 channels"),
        ("text.pth --out e.safetensors", "can't be read as plain tensors"),
    ],
)
def test_wrong_use_is_one_sentence_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(state_of(width=0.125), "w.pth")
    torch.save(state_of(width=0.125, in_channels=1), "gray.pth")
    torch.save(one("cls_token", "blocks.0.attn.qkv.weight"), "vit.pth")
    Path("text.pth").write_text("no weights")
    Path("there.safetensors").write_text("mine")
    Path("beside.json").write_text("mine")
    assert said in refused(capsys, command)
    assert Path("there.safetensors").read_text() == Path("beside.json").read_text() == "mine"
    assert not list(Path().glob("e.*"))


def test_what_is_ours_already_is_not_imported(tmp_path: Path) -> None:
    run = squint.pretrain(
        small.source(tmp_path), recipe=small.recipe(), out=tmp_path / "run", quiet=True, epochs=0.5
    )
    out = tmp_path / "e.safetensors"
    with pytest.raises(RunError, match=r"encoder.json beside it, so Squint reads it"):
        import_weights(run.encoder, out=out)
    with pytest.raises(RunError, match=r"is a checkpoint of the run .*export"):
        import_weights(run.checkpoint, out=out)
    with pytest.raises(RunError, match="a run needs no import"):
        import_weights(run.path, out=out)
    with pytest.raises(CheckpointError, match="does not fit resnet18"):
        import_weights(run.encoder, out=out, encoder=EncoderConfig(name="resnet18"))
    assert not out.exists()
