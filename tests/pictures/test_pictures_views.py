"""The views on a sheet are those that training shows, pixel by pixel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from squint.cli import main
from squint.data import Images, open_source
from squint.errors import DataError, RecipeError, RunError
from squint.pictures import canvas
from squint.pictures.options import ViewsOptions
from squint.pictures.views import draw_views, plain, strengths, views_of
from squint.recipe import Recipe
from squint.train.feed import Feed, prepare
from train import small

SMALL, LARGE = (24, 24), (90, 70)


def photographs(folder: Path, size: tuple[int, int], count: int = 20) -> Images:
    """Smooth pictures as JPEG files: decoded twice they are the same, and blur changes little."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:02}.jpg")
    return open_source(folder)


def trained_on(images: Images, recipe: Recipe, epoch: int) -> dict[int, tuple[Any, Any]]:
    """Every view of an epoch as a run's own feed gives it, by row, without normalisation."""
    feed = Feed(prepare(images, recipe), recipe, small.runtime())
    steps = feed._loader.order.steps_per_epoch
    shown: dict[int, tuple[Any, Any]] = {}
    batches = feed.batches(epoch * steps)
    orders = feed._loader.order.steps(epoch * steps)
    for _ in range(steps):
        _, rows = next(orders)
        views = [plain(view, recipe.views) for view in next(batches).views]
        shown |= {int(row): (views[0][n], views[1][n]) for n, row in enumerate(rows)}
    return shown


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_pairs_are_those_of_training(tmp_path: Path, size: tuple[int, int]) -> None:
    images = photographs(tmp_path / "photos", size)
    (tmp_path / "photos" / "03.jpg").write_bytes(b"no image")  # in memory it takes no row
    recipe = small.recipe(
        "byol", **{"train.seed": 5, "train.workers": 0, "data.max_unreadable_percent": 10.0}
    )
    shown = views_of(images, recipe, ViewsOptions(images=6, pairs=3))
    assert [each.pairs.shape[:2] for each in shown] == [(3, 2)] * 6
    names = [path for path in images.paths if size != SMALL or path != "03.jpg"]
    for epoch in range(3):
        feed = trained_on(images, recipe, epoch)
        compared = 0
        for each in shown:
            row = names.index(each.path)
            if row in feed:  # an epoch leaves out what fills no batch
                np.testing.assert_array_equal(each.pairs[epoch], np.stack(feed[row]))
                compared += 1
        assert compared >= 3
    for each in shown:
        np.testing.assert_array_equal(each.pixels, images.read(images.paths.index(each.path)))


def test_the_images_are_the_first_that_training_meets(tmp_path: Path) -> None:
    images = open_source(small.source(tmp_path))
    recipe = small.recipe(**{"train.seed": 3})
    feed = Feed(prepare(images, recipe), recipe, small.runtime())
    _, rows = next(feed._loader.order.steps())
    shown = views_of(images, recipe, ViewsOptions(images=4, pairs=1))
    assert [each.path for each in shown] == [images.paths[row] for row in rows[:4]]


def test_an_image_is_named_by_its_path_or_its_file(tmp_path: Path) -> None:
    images = photographs(tmp_path / "photos", LARGE)
    only = ("07.jpg", str(tmp_path / "photos" / "02.jpg"))
    shown = views_of(images, small.recipe(), ViewsOptions(only=only, pairs=1))
    assert [each.path for each in shown] == ["07.jpg", "02.jpg"]
    (tmp_path / "photos" / "04.jpg").write_bytes(b"no image")
    for name, words in (("04.jpg", "04.jpg can't be read: not an image"), ("x", "--only x is no")):
        with pytest.raises(DataError, match=words):
            views_of(images, small.recipe(), ViewsOptions(only=(name,)))


def test_normalisation_is_undone() -> None:
    recipe = small.recipe("byol")
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    mean, std = (torch.tensor(x)[:, None, None] for x in (recipe.views.mean, recipe.views.std))
    back = plain((levels / 255 - mean) / std, recipe.views)
    np.testing.assert_array_equal(back, levels.movedim(1, -1).numpy())


def test_grey_images_have_grey_views(tmp_path: Path) -> None:
    path = small.source(tmp_path)
    recipe = small.recipe(**{"encoder.in_channels": 1, "views.mean": [0.5], "views.std": [0.25]})
    out = tmp_path / "v.png"
    shown = draw_views(open_source(path, channels=1), recipe=recipe, out=out)
    assert shown[0].pairs.shape[-1] == shown[0].pixels.shape[-1] == 1
    with Image.open(out) as sheet:
        assert sheet.mode == "RGB"


def test_the_sheet_shows_small_pixels_as_blocks(tmp_path: Path) -> None:
    images = open_source(small.source(tmp_path))
    recipe = small.recipe(**{"views.size": 16})
    options = ViewsOptions(images=2, pairs=2, side=64)
    shown = draw_views(images, recipe=recipe, out=tmp_path / "v.png", options=options)
    with Image.open(tmp_path / "v.png") as opened:
        sheet = np.asarray(opened)
    for each in shown:
        for tile in (each.pixels, *each.pairs.reshape(-1, 16, 16, 3)):
            block = tile.repeat(4, axis=0).repeat(4, axis=1)  # 64 px
            corners = np.argwhere((sheet == block[0, 0]).all(axis=-1))
            assert any(
                np.array_equal(sheet[y : y + 64, x : x + 64], block) for y, x in corners.tolist()
            ), "a tile of its own pixels"


def test_a_square_holds_the_whole_image() -> None:
    wide = np.zeros((20, 300, 3), dtype=np.uint8)
    drawn = np.asarray(canvas.square(wide, 100))
    assert drawn.shape == (100, 100, 3)
    rows = np.flatnonzero((drawn == 0).all(axis=(1, 2)))
    assert len(rows) == 7 and abs(rows.mean() - 49.5) <= 1, "all of its width, in the middle"


def test_strengths_are_those_of_each_view() -> None:
    first, second = strengths(small.recipe("byol", views__second__solarize=0.2)).items()
    assert first[0] == "--views.first." and "solarize 0" in first[1]
    assert second[0] == "--views.second." and "solarize 0.2" in second[1]
    changes = {"views.first.blur.probability": 0.0, "views.first.crop.area": [0.3, 0.9]}
    changed = strengths(small.recipe(**changes))["--views.first."]
    assert "crop.area 0.3–0.9" in changed
    assert not any(item.startswith("blur.sigma") for item in changed), "nothing to turn"


def test_the_verb_draws_a_recipe_with_any_field_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = small.source(tmp_path), tmp_path / "v.jpg"
    command = ["views", "simclr@tiny", "--data", source, "--out", str(out), "--images", "2"]
    assert main([*command, "--pairs", "1", "--seed", "4", "--views.first.gray", "1"]) == 0
    assert "images shown: 2" in capsys.readouterr().out
    with Image.open(out) as sheet:
        assert sheet.format == "JPEG"
    assert main(command) == 2 and "is there already" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--views.first.gray", "2"]) == 2
    assert "views.first.gray=2.0" in capsys.readouterr().err
    before = out.read_bytes()
    assert main([*command, "--overwrite"]) == 0 and out.read_bytes() != before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["noise.npz", "v.jpg"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--out v.gif", "v.gif must end in .png, .jpg, .jpeg or .pdf: the ending says its kind"),
        ("--out none/v.png", "the folder none does not exist"),
        ("--out v.png --images 0", "images=0 must be from 1 to 100"),
        ("--out v.png --pairs 101", "pairs=101 must be from 1 to 100"),
        ("--out v.png --side 8", "side=8 must be from 64 to 1024"),
        ("--out v.png --images 90 --side 1000", "90 rows of 9 images of 1000 px are too much"),
        ("--out v.png --only nothing", "--only nothing is no readable image of demo (train)"),
        ("--out v.png --only test/0000.png", "--only test/0000.png is no readable image of"),
        ("--out v.png --epoch 3", "Did you mean --epochs?"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    flags: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["views", "simclr@tiny", "--data", "demo", *flags.split()]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_python_refuses_the_same(tmp_path: Path) -> None:
    images = open_source(small.source(tmp_path))
    with pytest.raises(RecipeError, match="pairs=0"):
        ViewsOptions(pairs=0)
    with pytest.raises(RunError, match="must end in"):
        draw_views(images, recipe=small.recipe(), out=tmp_path / "v")
    grey = open_source(small.source(tmp_path), channels=1)
    recipe = small.recipe(**{"views.mean": [0.4, 0.5, 0.6]})
    with pytest.raises(RecipeError, match="3 numbers, the images 1 channels"):
        draw_views(grey, recipe=recipe, out=tmp_path / "v.png")
    assert not (tmp_path / "v.png").exists()
