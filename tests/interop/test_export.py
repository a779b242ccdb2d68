"""An export loads in the other library by the lines that are printed, and gives our features."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image

import squint
from squint.cli import main
from squint.configs import EncoderConfig
from squint.errors import RecipeError, RunError
from squint.interop import encoder as encoder_file
from squint.interop import to_detectron2
from squint.interop.export import export, suitable
from squint.interop.formats import Format
from squint.views.recipes import EvalView, ViewsConfig
from train import small

SIDE = 32
VIEWS = ViewsConfig(
    size=SIDE,
    evaluation=EvalView(size=SIDE, crop=1.0, interpolation="bilinear"),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
)


def pair(folder: Path, name: str, **settings: object) -> Path:
    """An encoder with weights and BatchNorm statistics unlike any fresh one's, as a run leaves."""
    config = EncoderConfig(name=name, **settings)  # pyright: ignore[reportArgumentType]
    torch.manual_seed(3)
    built = encoder_file.build(config)
    for key, buffer in built.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    folder.mkdir(exist_ok=True)
    encoder_file.save_pair(folder / "encoder.safetensors", built, config, VIEWS)
    return folder


def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def printed(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    """The lines between the first and the last paragraph of what `squint export` prints."""
    assert main([str(word) for word in command]) == 0
    return capsys.readouterr().out.split("\n\n")[1]


def refused(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    assert main([str(word) for word in command]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("timm", "resnet18"),
        ("timm", "resnet10"),
        ("timm", "mocov3_vit_small"),
        ("timm", "timm/resnet10t"),
        ("torchvision", "resnet18"),
        ("torchvision", "torchvision/mobilenet_v3_small"),
    ],
)
def test_the_printed_lines_give_the_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format: Format, name: str, ending: str
) -> None:
    encoder = squint.load_encoder(pair(tmp_path / "e", name))
    out = tmp_path / f"out{ending}"
    lines = printed(capsys, "export", tmp_path / "e", "--format", format, "--out", out)
    found: dict[str, object] = {}
    exec(lines, found)
    model, transform = found["model"], found["transform"]
    assert callable(model) and callable(transform)
    torch.testing.assert_close(transform(picture()), encoder.transform(picture()))
    with torch.no_grad():
        images = encoder.transform(picture())[None]
        torch.testing.assert_close(model(images), encoder(images), rtol=1e-4, atol=1e-5)


def test_the_other_library_alone_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair(tmp_path / "e", "resnet18")
    lines = printed(
        capsys, "export", tmp_path / "e", "--format", "timm", "--out", tmp_path / "a.safetensors"
    )
    code = f"{lines}\nimport sys; assert 'squint' not in sys.modules; assert not model.training"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_becomes_a_folder_for_the_hub(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").mkdir()
    run = squint.pretrain(
        small.source(tmp_path / "secret"),
        recipe=small.recipe(encoder__stem="imagenet", encoder__width=1.0),
        out=tmp_path / "run",
        quiet=True,
        epochs=0.5,
    )
    assert main(["evaluate", str(run.path), "--protocols", "knn"]) == 0
    table = run.evaluation()
    stale = table | {"weights": "0" * 16, "results": {"old_top1": table["results"]["knn_top1"]}}
    (run.path / "evaluation.json").write_text(json.dumps(table | {"others": [stale]}))
    capsys.readouterr()

    folder = tmp_path / "hub"
    lines = printed(capsys, "export", run.path, "--format", "hf", "--out", folder)
    found: dict[str, object] = {}
    exec(lines, found)
    encoder = squint.load_encoder(run)
    model, transform = found["model"], found["transform"]
    assert callable(model) and callable(transform)
    side = encoder.views.evaluation.size
    shown = picture().resize((side, side))
    torch.testing.assert_close(transform(shown), encoder.transform(shown))
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        torch.testing.assert_close(model(images), encoder(images), rtol=1e-4, atol=1e-5)

    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "resnet18" and config["model_args"]["layers"] == [1, 1, 1, 1]
    card = (folder / "README.md").read_text()
    knn = table["results"]["knn_top1"]
    for word in ("c-simclr", "noise.npz", f"{knn['value']:.4g}", knn["protocol"], "3 of 3 steps"):
        assert word in card
    assert "# license: yours" in card and "hf-hub:YOUR-NAME" in card
    assert str(tmp_path) not in card, "folders of one's own disk are not for others"
    assert "old_top1" not in card, "a number of other weights"

    again = ("export", run.path, "--format", "hf", "--out", folder)
    assert "add --overwrite" in refused(capsys, *again)
    assert main([str(word) for word in again] + ["--overwrite"]) == 0
    for taken, said in ((run.path, "is the encoder itself"), (tmp_path / "secret", "other files")):
        assert said in refused(capsys, *again[:-1], taken, "--overwrite")


def test_a_classifier_can_be_put_on_the_hub_folder(tmp_path: Path) -> None:
    export(pair(tmp_path / "e", "resnet18"), format="hf", out=tmp_path / "hub")
    model = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True, num_classes=7)
    state = safetensors.torch.load_file(tmp_path / "e" / "encoder.safetensors")
    assert torch.equal(model.state_dict()["conv1.weight"], state["conv1.weight"])
    assert model.eval()(torch.zeros(1, 3, SIDE, SIDE)).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet10", {"stem": "cifar", "width": 0.25}),
        ("timm/resnet10t", {}),
        ("mocov3_vit_small", {}),
    ],
)
def test_onnx_takes_any_number_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, settings: dict[str, object]
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    out = tmp_path / "e.onnx"
    encoder = squint.load_encoder(pair(tmp_path / "e", name, **settings))
    assert main(["export", str(tmp_path / "e"), "--format", "onnx", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "largest difference" in text and not list(tmp_path.glob("e.onnx.*"))
    proto = onnx.load(out)
    (said,) = [prop.value for prop in proto.metadata_props if prop.key == "squint.input"]
    assert json.loads(said)["mean"] == [0.4, 0.5, 0.6]
    for count in (1, 5):
        images = torch.randn(count, 3, SIDE, SIDE)
        found: dict[str, object] = {"images": images.numpy()}
        exec(text.split("\n\n")[1], found)
        with torch.no_grad():
            np.testing.assert_allclose(
                np.asarray(found["features"]), encoder(images).numpy(), rtol=1e-3, atol=1e-4
            )


def test_onnx_without_its_libraries_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squint.interop.formats.importlib.util.find_spec", lambda _: None)
    with pytest.raises(RunError, match=r"needs onnx and onnxscript.*squint\[onnx\]"):
        export(pair(tmp_path / "e", "resnet10"), format="onnx", out=tmp_path / "e.onnx")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_detectron2_gets_its_own_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "d.pkl"
    pair(tmp_path / "e", name)
    lines = printed(capsys, "export", tmp_path / "e", "--format", "detectron2", "--out", out)
    with out.open("rb") as file:
        content = pickle.load(file, encoding="latin1")
    assert content["matching_heuristics"] is True and content["__author__"]
    model = content["model"]
    state = safetensors.torch.load_file(tmp_path / "e" / "encoder.safetensors")
    assert len(model) == len(state)
    last = "3" if name == "resnet50" else "2"
    for theirs, ours in {
        "stem.conv1.weight": "conv1.weight",
        "stem.conv1.norm.running_var": "bn1.running_var",
        "res2.0.conv1.weight": "layer1.0.conv1.weight",
        f"res5.1.conv{last}.norm.bias": f"layer4.1.bn{last}.bias",
        "res3.0.shortcut.weight": "layer2.0.downsample.0.weight",
        "res3.0.shortcut.norm.running_mean": "layer2.0.downsample.1.running_mean",
    }.items():
        assert isinstance(model[theirs], np.ndarray) and model[theirs].flags.writeable
        np.testing.assert_array_equal(model[theirs], state[ours].numpy())
    assert b"numpy._core" not in out.read_bytes(), "numpy before 1.26 could not read it"

    groups = SimpleNamespace(MODEL=SimpleNamespace(RESNETS=SimpleNamespace()))
    groups.INPUT = SimpleNamespace()
    modules = {"detectron2": SimpleNamespace(), "detectron2.config": SimpleNamespace()}
    modules["detectron2.config"].get_cfg = lambda: groups
    with pytest.MonkeyPatch.context() as patch:
        for module, stand_in in modules.items():
            patch.setitem(sys.modules, module, stand_in)
        exec(lines, {})
    assert str(groups.MODEL.RESNETS.DEPTH) == name.removeprefix("resnet")
    assert groups.MODEL.PIXEL_MEAN == [102.0, 127.5, 153.0] and groups.INPUT.FORMAT == "RGB"
    assert (name == "resnet18") == hasattr(groups.MODEL.RESNETS, "RES2_OUT_CHANNELS")


def test_every_name_of_a_resnet_is_detectron2s() -> None:
    names = [to_detectron2.renamed(key) for key in torchvision.models.resnet50().state_dict()]
    assert len(set(names)) == len(names)
    bodies = [name for name in names if "fc" not in name]
    assert all(name.startswith(("stem.conv1.", "res")) for name in bodies)
    assert not any("bn" in name or "layer" in name or "downsample" in name for name in bodies)


@pytest.mark.parametrize(
    ("name", "settings", "formats"),
    [
        ("resnet34", {}, {"timm", "torchvision", "hf", "onnx", "detectron2"}),
        ("timm/resnet34", {}, {"timm", "torchvision", "hf", "onnx", "detectron2"}),
        ("resnet18", {"in_channels": 1}, {"timm", "hf", "onnx"}),
        ("resnet18", {"stem": "cifar"}, {"onnx"}),
        ("resnet10", {"width": 0.5}, {"onnx"}),
        ("resnet10", {}, {"timm", "hf", "onnx"}),
        ("mocov3_vit_small", {}, {"timm", "hf", "onnx"}),
        ("mocov3_vit_conv_small", {}, {"onnx"}),
        ("torchvision/alexnet", {}, {"torchvision", "onnx"}),
    ],
)
def test_a_format_that_lacks_the_architecture_names_those_that_have_it(
    name: str, settings: dict[str, object], formats: set[str]
) -> None:
    config = EncoderConfig(name=name, **settings)  # pyright: ignore[reportArgumentType]
    encoder = encoder_file.PretrainedEncoder(encoder_file.build(config), config, VIEWS)
    assert set(suitable(encoder)) == formats


def test_the_cifar_stem_is_refused_with_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pair(tmp_path / "e", "resnet18", stem="cifar")
    out = tmp_path / "a.pth"
    said = refused(capsys, "export", folder, "--format", "torchvision", "--out", out)
    assert "cifar stem" in said and "--format onnx" in said and "docs/weights.md" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("none --format timm --out a.pth", "There is no none"),
        ("e --format timm --out a.bin", "must end in .safetensors or .pth"),
        ("e --format onnx --out a.pth", "must end in .onnx"),
        ("e --format timm --out no/a.pth", "does not exist. Make it first"),
        ("e --format timm --out there.pth", "no file is overwritten unasked"),
        ("e --format timm --out e/encoder.safetensors --overwrite", "is the encoder itself"),
        ("e --format hf --out there.pth", "is a file, and format hf is a folder"),
        ("e --format timm --out a.pth --size 64", "knows its own"),
        ("e --format timm --out a.pth --width 2", "name it with --encoder"),
        ("there.pth --format timm --out a.pth", "squint import FILE"),
    ],
)
def test_wrong_use_is_one_sentence_and_changes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (pair(tmp_path / "e", "resnet10", width=0.125) / "encoder.safetensors").read_bytes()
    Path("there.pth").write_text("mine")
    assert re.search(said, refused(capsys, "export", *more.split()))
    assert Path("there.pth").read_text() == "mine"
    assert Path("e/encoder.safetensors").read_bytes() == before
    assert not Path("a.pth").exists()


def test_what_the_disk_or_the_exporter_refuses_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(kind: type[RuntimeError]) -> NoReturn:
        raise kind("unexpected pos 64 vs 0")

    folder, out = pair(tmp_path / "e", "resnet18"), tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(torch, "save", lambda *_: fail(RuntimeError))
    said = refused(capsys, "export", folder, "--format", "timm", "--out", out / "a.pth")
    assert "no space left" in said
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: fail(torch.onnx.OnnxExporterError))
    said = refused(capsys, "export", folder, "--format", "onnx", "--out", out / "a.onnx")
    assert "can't write resnet18 (unexpected pos 64 vs 0): nothing was written" in said
    assert not list(out.iterdir())


def test_a_hub_folder_written_in_part_may_be_written_again(tmp_path: Path) -> None:
    folder, out = pair(tmp_path / "e", "resnet18"), tmp_path / "hub"
    out.mkdir()
    (out / "model.safetensors").write_text("half")
    with pytest.raises(RunError, match="holds an export already"):
        export(folder, format="hf", out=out)
    export(folder, format="hf", out=out, overwrite=True)
    assert (out / "README.md").exists()


def test_weights_of_another_library_go_straight_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = torchvision.models.resnet18().state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, "moco.pth.tar")
    command = "export moco.pth.tar --encoder resnet18 --size 64 --format timm --out a.pth"
    assert "create_transform(64" in printed(capsys, *command.split())
    loaded = torch.load("a.pth", weights_only=True)
    assert set(loaded) == {key for key in state if not key.startswith("fc.")}
    assert torch.equal(loaded["conv1.weight"], state["conv1.weight"])


def test_python_takes_an_encoder_in_memory(tmp_path: Path) -> None:
    encoder = squint.load_encoder(pair(tmp_path / "e", "resnet18"))
    done = export(encoder, format="torchvision", out=tmp_path / "a.pth")
    assert done.out.exists() and "resnet18" in done.what and "Identity" in done.lines
    vit = pair(tmp_path / "v", "mocov3_vit_small")
    with pytest.raises(RecipeError, match=r"torchvision has no mocov3_vit_small.*--format timm"):
        export(vit, format="torchvision", out=tmp_path / "c.pth")


def test_the_page_says_how_the_cifar_stem_is_made_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "weights.md").read_text()
    (lines,) = re.findall(r"```python\n([^`]*maxpool[^`]*)```", page)
    encoder = squint.load_encoder(pair(tmp_path, "resnet18", stem="cifar"))
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(lines, found)
    model, images = found["model"], torch.randn(2, 3, SIDE, SIDE)
    assert callable(model)
    with torch.no_grad():
        torch.testing.assert_close(model(images), encoder(images), rtol=1e-4, atol=1e-5)
