"""Images of five channels, from an array to a trained, measured, exported encoder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import squint
from squint import cli
from squint.configs import EncoderConfig
from squint.data import open_source
from squint.errors import DataError
from squint.interop import encoder as encoder_file
from squint.recipe import Recipe
from squint.runs import Run
from squint.train.signals import Interrupted
from train import small
from train.test_resume import stop_in_step

CHANNELS = 5
FLAGS = "--encoder.in-channels 5 --views.mean 0.3 0.4 0.5 0.5 0.5 --views.std 0.2 0.2 0.2 0.3 0.3"


def pictures(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise around a level per class and channel, and the classes."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    levels = 60 + 60 * random.random((3, CHANNELS))[labels]
    pixels = random.normal(levels[:, None, None], 30, (count, side, side, CHANNELS))
    return pixels.clip(0, 255).astype(np.uint8), labels


def source(path: Path, side: int, count: int = 48) -> Path:
    pixels, labels = pictures(count, side)
    np.savez(path, images=pixels, labels=labels)
    return path


def recipe(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "encoder__in_channels": CHANNELS,
        "views__mean": [0.3, 0.4, 0.5, 0.5, 0.5],
        "views__std": [0.2, 0.2, 0.2, 0.3, 0.3],
    }
    return small.recipe(**fields | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("many")
    data = source(root / "set.npz", 24)
    changes = {"train__knn_every_epochs": 1}
    return squint.pretrain(data, recipe=recipe(**changes), out=root / "run", quiet=True)


def said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == status
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return " ".join((shown.out + shown.err).split())


def test_a_run_learns_from_all_channels_and_looks_at_neighbours(run: Run) -> None:
    first = run.state()["method"]["encoder.conv1.weight"]
    assert first.shape[1] == CHANNELS
    assert all(len(np.unique(first[:, c])) > 8 for c in range(CHANNELS))
    assert any("knn_top1" in record for record in run.records())


@pytest.mark.parametrize("side", [24, 72], ids=["in memory", "by workers"])
def test_stopped_and_resumed_is_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    data = source(tmp_path / "set.npz", side)
    config = recipe(train__workers=2, train__epochs=2.0)
    whole = squint.pretrain(data, recipe=config, out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_in_step(patch, 2, 2)
        squint.pretrain(data, recipe=config, out=tmp_path / "parts", quiet=True)
    parts = squint.resume(tmp_path / "parts", quiet=True)
    small.assert_same_bits(whole, parts)


def test_what_a_sixteen_bit_array_trains_is_what_its_levels_train(tmp_path: Path) -> None:
    pixels, _ = pictures(32, 72)
    np.save(tmp_path / "8.npy", pixels)
    np.save(tmp_path / "16.npy", pixels.astype(np.uint16) * 257)
    runs = [
        squint.pretrain(
            tmp_path / f"{bits}.npy", recipe=recipe(), out=tmp_path / str(bits), quiet=True
        )
        for bits in (8, 16)
    ]
    small.assert_same_bits(*runs)


def test_flags_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = source(tmp_path / "set.npz", 24), tmp_path / "run"
    start = ["pretrain", "simclr@tiny", "--out", out, "--epochs", 1, "--batch-size", 16]
    narrow = ["--encoder.width", 0.125, "--optim.warmup-epochs", 0]
    words = said(capsys, *start, "--data", data, status=2)
    assert "has images of 5 channels, not of 3. To train on them give --encoder.in-channels 5" in (
        words
    )
    words = said(capsys, *start, "--data", data, "--encoder.in-channels", 5, status=2)
    assert "such as --views.mean 0.5 --views.std 0.25. For those of your images look at" in words
    words = said(capsys, *start, "--data", "demo", *FLAGS.split(), status=2)
    assert "demo can't be read in 5 channels" in words and ".npy and .npz arrays" in words
    assert not out.exists()
    said(capsys, *start, *narrow, "--data", data, *FLAGS.split())
    assert Run(out).recipe.encoder.in_channels == 5


def test_evaluation(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "evaluation.json"
    kinds = "knn linear compression fitted augmentations surprise compare pgd lipschitz".split()
    said(capsys, "evaluate", run.path, "--protocols", *kinds, "--out", out, "--pgd.steps", 2)
    found = json.loads(out.read_text())["results"]
    assert {"knn_top1", "linear_top1", "rate_nats", "compare_linear_top1"} <= set(found)
    assert not any(name.endswith("corrupted_auroc") for name in found)
    words = said(capsys, "evaluate", run.path, "--protocols", "robustness", "--out", out, status=2)
    assert "images of 5 channels, and corruptions are defined for grey and RGB" in words
    words = said(capsys, "evaluate", run.path, "--data", "demo", "--out", out, status=2)
    assert "demo can't be read in 5 channels" in words


def test_encoders_of_other_channels_are_not_compared(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--protocols", "compare", "--out", tmp_path / "e.json"]
    other = "torchvision:resnet18"
    words = said(capsys, "evaluate", run.path, *flags, "--compare.checkpoint", other, status=2)
    assert f"{other} reads images of 3 channels, and these were opened with 5" in words


def test_the_encoder_reads_arrays_and_batches(run: Run) -> None:
    encoder = squint.load_encoder(run.path)
    images = open_source(run.source, channels=CHANNELS)
    batch = torch.stack([encoder.transform(images.read(k)) for k in range(3)])
    side = encoder.views.evaluation.size
    assert batch.shape == (3, CHANNELS, side, side)
    wide = images.read(0).astype(np.uint16) * 257
    torch.testing.assert_close(encoder.transform(wide), batch[0], rtol=0, atol=0)
    with torch.inference_mode():
        assert encoder(batch).shape == (3, encoder.dim)
    with pytest.raises(DataError, match=r"reads images of 5 channels, and a PIL picture is grey"):
        encoder.transform(Image.new("RGB", (24, 24)))
    with pytest.raises(DataError, match="has no 5 channels"):
        encoder.transform(images.read(0)[:, :, :3])
    with pytest.raises(DataError, match="The array is float32"):
        encoder.transform(images.read(0).astype(np.float32))
    with pytest.raises(DataError, match=r"\(n, 5, h, w\)"):
        encoder(batch[:, :3])


def test_files_and_pictures(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "embed", run.path, "--out", tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as arrays:
        assert len(arrays["features"]) == 48
    said(capsys, "neighbors", run.path, "--out", tmp_path / "n.png", "--images", 2)
    Image.new("RGB", (24, 24)).save(tmp_path / "rgb.png")
    query = ["--query", tmp_path / "rgb.png", "--out", tmp_path / "m.png"]
    assert "none has 5 channels" in said(capsys, "neighbors", run.path, *query, status=2)
    views = ["--data", run.source, "--out", tmp_path / "v.png", *FLAGS.split()]
    said(capsys, "views", "simclr@tiny", *views, "--images", 2, "--pairs", 1)
    with Image.open(tmp_path / "v.png") as sheet:
        assert sheet.mode == "RGB"


def test_in_other_libraries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = EncoderConfig(name="resnet10", in_channels=CHANNELS)
    path, out = tmp_path / "e.safetensors", tmp_path / "timm.safetensors"
    encoder_file.save_pair(path, encoder_file.build(config), config, recipe().views)
    assert cli.main(["export", str(path), "--format", "timm", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.partition("\n\n")[2]
    assert "# images: float32 (n, 5, 24, 24) in 0..1, less (0.3, 0.4" in lines
    found: dict[str, Any] = {}
    exec(lines, found)
    images = torch.rand(2, CHANNELS, 24, 24)
    with torch.inference_mode():
        ours = squint.load_encoder(path)(images)
        torch.testing.assert_close(found["model"](images), ours, rtol=1e-4, atol=1e-5)
    said(capsys, "export", path, "--format", "hf", "--out", tmp_path / "hub")
    assert "features = model(images[:1])" in (tmp_path / "hub" / "README.md").read_text()


def test_onnx(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    words = said(capsys, "export", run.path, "--format", "onnx", "--out", tmp_path / "e.onnx")
    assert "float32 (n, 5, 24, 24) in 0..1" in words and "gives the same features" in words
