"""A run that begins with weights it did not draw."""

from pathlib import Path

import pytest
import torch

import squint
from squint import methods
from squint.cli import USER_ERROR, main
from squint.errors import CheckpointError
from squint.train.initial import load_initial
from train import small


def encoder_of(folder: Path) -> Path:
    """An encoder in a file of another library's making, with what its training left around it."""
    torch.manual_seed(7)
    method = methods.build(small.recipe())
    state = {f"module.encoder_q.{k}": v for k, v in method.encoder.state_dict().items()}
    path = folder / "checkpoint.pth"
    torch.save({"epoch": 1, "state_dict": state | {"module.queue": torch.randn(4, 4)}}, path)
    return path


@pytest.mark.parametrize("name", ["c-simclr", "moco-v2", "moco-v3", "byol"])
def test_encoder_and_target_begin_with_the_file(tmp_path: Path, name: str) -> None:
    path = encoder_of(tmp_path)
    changes = {"method__target_init": "independent"} if name == "byol" else {}
    recipe = small.recipe(name, train__initial_weights=str(path), **changes)
    method = methods.build(recipe)
    heads = {k: v.clone() for k, v in method.state_dict().items() if ".encoder." not in f".{k}"}
    said = load_initial(method, recipe)
    assert str(path) in said and "tensors" in said
    wanted = torch.load(path, weights_only=True)["state_dict"]
    encoders = [method.encoder, *([method.target.encoder] if hasattr(method, "target") else [])]
    for encoder in encoders:
        for key, value in encoder.state_dict().items():
            assert torch.equal(value, wanted[f"module.encoder_q.{key}"]), key
    after = method.state_dict()
    assert all(torch.equal(after[k], v) for k, v in heads.items()), "heads stay as drawn"


def test_a_run_goes_on_from_another_and_resumes_without_it(tmp_path: Path) -> None:
    source = small.source(tmp_path)
    first = squint.pretrain(source, recipe=small.recipe(), out=tmp_path / "first", quiet=True)
    begun = small.recipe(train__initial_weights=str(first.path), train__epochs=1.0)
    whole = squint.pretrain(source, recipe=begun, out=tmp_path / "second", quiet=True)
    fresh = squint.pretrain(source, recipe=small.recipe(), out=tmp_path / "third", quiet=True)
    assert whole.records()[0]["loss"] != fresh.records()[0]["loss"]
    of_ours = small.recipe(train__initial_weights=str(first.checkpoint))
    with pytest.raises(CheckpointError, match="is a checkpoint of Squint"):
        load_initial(methods.build(of_ours), of_ours)
    first.encoder.unlink()  # what a checkpoint holds is enough
    assert squint.resume(whole, quiet=True).records() == whole.records()


def test_what_does_not_fit_is_refused_before_a_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = encoder_of(tmp_path), tmp_path / "run"
    command = ["pretrain", "c-simclr@tiny", "--data", small.source(tmp_path), "--out", str(out)]
    command += ["--batch-size", "16", "--train.initial-weights"]
    for given, words in (
        (str(path), ["does not fit resnet10", "--encoder.width"]),
        (str(tmp_path / "no.pth"), ["no.pth does not exist"]),
    ):
        assert main([*command, given]) == USER_ERROR
        said = capsys.readouterr().err
        assert all(word in said for word in words), said
        assert not out.exists()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    recipe = small.recipe(train__initial_weights=str(tmp_path))
    with pytest.raises(CheckpointError, match=r"folder without encoder\.safetensors: no run"):
        load_initial(methods.build(recipe), recipe)
