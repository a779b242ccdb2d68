"""The encoder's file loads into timm and torchvision by key name, and back into Squint."""

import dataclasses
import json
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image

import squint
from squint import presets
from squint.configs import EncoderConfig
from squint.errors import CheckpointError, DataError
from squint.interop import encoder as encoder_file
from train import small


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_timm_and_torchvision_load_it_and_agree(tmp_path: Path, name: str) -> None:
    recipe = presets.recipe("simclr@folder").replace(encoder=EncoderConfig(name=name))
    torch.manual_seed(0)
    ours = encoder_file.build(recipe.encoder).eval()
    encoder_file.save(tmp_path, ours, recipe)
    state = safetensors.torch.load_file(tmp_path / "encoder.safetensors")
    card = json.loads((tmp_path / "encoder.json").read_text())
    assert set(card["load"]) == {"squint", "timm", "torchvision"}

    images = torch.rand(2, 3, 64, 64)
    expected = ours(images)
    theirs = timm.create_model(name, num_classes=0).eval()
    theirs.load_state_dict(state)
    torch.testing.assert_close(theirs(images), expected, rtol=1e-4, atol=1e-5)

    model = getattr(torchvision.models, name)().eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["fc.weight", "fc.bias"] and not unexpected
    model.fc = torch.nn.Identity()
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)


def test_a_run_gives_its_encoder_back(tmp_path: Path) -> None:
    run = squint.pretrain(
        small.source(tmp_path), recipe=small.recipe(), out=tmp_path / "run", quiet=True
    )
    encoder = squint.load_encoder(str(run.path))
    assert squint.load_encoder(run).dim == squint.load_encoder(run.encoder).dim == encoder.dim
    assert not encoder.training and encoder.dim == 64
    state = run.state()["method"]
    for name, value in encoder.encoder.state_dict().items():
        assert torch.equal(value, state[f"encoder.{name}"]), name
    picture = encoder.transform(Image.new("RGBA", (50, 40), (255, 0, 0, 255)))
    size = encoder.views.evaluation.size
    assert picture.shape == (3, size, size)
    assert encoder(picture[None]).shape == (1, 64)


def test_missing_damaged_and_foreign_weights_are_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        encoder_file.load(tmp_path)
    recipe = small.recipe()
    encoder_file.save(tmp_path, encoder_file.build(recipe.encoder), recipe)
    weights = tmp_path / "encoder.safetensors"
    safetensors.torch.save_file({"conv1.weight": torch.zeros(1)}, weights)
    with pytest.raises(CheckpointError, match="does not fit resnet10"):
        encoder_file.load(tmp_path)
    weights.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="can't be read"):
        encoder_file.load(weights)


@pytest.mark.parametrize(
    ("name", "libraries"),
    [
        ("resnet18", {"timm", "torchvision"}),
        ("vit_tiny_patch16_224", {"timm"}),
        ("timm/resnet10t", {"timm"}),
        ("alexnet", {"torchvision"}),
        ("torchvision/vit_b_32", {"torchvision"}),
        ("mocov3_vit_small", {"timm"}),
    ],
)
def test_the_lines_that_load_it_give_its_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, libraries: set[str]
) -> None:
    recipe = presets.recipe("simclr@folder")
    recipe = recipe.replace(
        encoder=EncoderConfig(name=name), views=dataclasses.replace(recipe.views, size=224)
    )
    torch.manual_seed(0)
    ours = encoder_file.build(recipe.encoder).eval()
    encoder_file.save(tmp_path, ours, recipe)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        features = ours(images)
    lines = json.loads((tmp_path / "encoder.json").read_text())["load"]
    assert set(lines) == {"squint"} | libraries
    monkeypatch.chdir(tmp_path)
    for library, text in lines.items():
        found: dict[str, torch.nn.Module] = {}
        exec(text, found)
        model = found["encoder" if library == "squint" else "model"]
        with torch.no_grad():
            torch.testing.assert_close(model(images), features, rtol=1e-4, atol=1e-5)

    file = tmp_path / "encoder.safetensors"
    tensors = safetensors.torch.load_file(file)
    safetensors.torch.save_file({f"body.{key}": value for key, value in tensors.items()}, file)
    for text in lines.values():
        with pytest.raises((AssertionError, CheckpointError, RuntimeError)):
            exec(text, {})


def test_timm_is_not_named_where_its_positions_would_be_others(tmp_path: Path) -> None:
    recipe = presets.recipe("simclr@folder")
    evaluation = dataclasses.replace(recipe.views.evaluation, size=96)
    views = dataclasses.replace(recipe.views, size=96, evaluation=evaluation)
    recipe = recipe.replace(encoder=EncoderConfig(name="mocov3_vit_small"), views=views)
    encoder_file.save(tmp_path, encoder_file.build(recipe.encoder), recipe)
    assert set(json.loads((tmp_path / "encoder.json").read_text())["load"]) == {"squint"}


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(8, 3, 32, 32, dtype=torch.uint8), r"torch.uint8 of shape \(8, 3, 32, 32\)"),
        (torch.zeros(3, 32, 32), r"torch.float32 of shape \(3, 32, 32\); .* with \[None\]"),
        (torch.zeros(8, 32, 32, 3), r"reads floating-point images \(n, 3, h, w\), scaled to 0..1"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images: torch.Tensor, said: str) -> None:
    recipe = small.recipe()
    built = encoder_file.build(recipe.encoder)
    encoder = encoder_file.PretrainedEncoder(built, recipe.encoder, recipe.views).eval()
    with pytest.raises(DataError, match=said):
        encoder(images)


def test_another_card_beside_the_weights_is_explained(tmp_path: Path) -> None:
    recipe = small.recipe()
    encoder_file.save(tmp_path, encoder_file.build(recipe.encoder), recipe)
    card = tmp_path / "encoder.json"
    for text in ("{}", "[]", '{"architecture": [], "views": {}}'):
        card.write_text(text)
        with pytest.raises(CheckpointError, match="does not describe an encoder"):
            encoder_file.load(tmp_path)
