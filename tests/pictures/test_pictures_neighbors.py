"""Neighbours are those that a search of all cosines finds, whatever names the query."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import squint
from squint.cli import main
from squint.data import open_source
from squint.errors import DataError, RecipeError
from squint.pictures import neighbors_file
from squint.pictures.neighbors import neighbors
from squint.pictures.neighbors_file import Found, Neighbor
from squint.pictures.options import NeighborsOptions
from squint.runs import Run
from train import small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return squint.pretrain(
        small.source(folder), recipe=small.recipe(), out=folder / "run", quiet=True
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of photographs in folders, with a copy and a file that is no image."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (root / name).mkdir()
        for number in range(6):
            size = (20 + number, 30, 3)
            picture = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
            picture.save(root / name / f"{number}.png")
    (root / "dogs" / "copy.png").write_bytes((root / "cats" / "0.png").read_bytes())
    (root / "dogs" / "6.png").write_text("no image")
    return root


def test_neighbours_have_the_highest_cosines(run: Run) -> None:
    embedded = squint.embed(run)
    unit = torch.nn.functional.normalize(torch.from_numpy(embedded.features).double())
    cosines = unit @ unit.T
    found = neighbors(run, options=NeighborsOptions(images=5, k=4, seed=2))
    assert len({each.path for each in found}) == 5
    for each in found:
        own = embedded.paths.index(each.path)
        others = cosines[own].clone()
        others[own] = -2
        best, rows = others.topk(4)
        assert [near.row for near in each.neighbors] == rows.tolist()
        assert [near.path for near in each.neighbors] == [embedded.paths[row] for row in rows]
        got = [near.cosine for near in each.neighbors]
        np.testing.assert_allclose(got, best.numpy(), atol=1e-5)
        images = open_source(run.source)
        assert images.labels is not None
        assert [near.label for near in each.neighbors] == [
            images.classes[images.labels[row]] for row in rows
        ]


def test_a_file_of_the_source_is_not_its_own_neighbour_but_its_copy_is(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    names = ("cats/0.png", str(photos / "cats" / "0.png"), f"{photos.name}/cats/0.png")
    by_name, by_file, by_relative = neighbors(
        run, data=photos, options=NeighborsOptions(query=names, k=3)
    )
    assert by_name == by_file == by_relative
    assert by_name.path == "cats/0.png" and by_name.label == "cats"
    nearest = by_name.neighbors[0]
    assert nearest.path == "dogs/copy.png" and nearest.cosine == pytest.approx(1, abs=1e-6)
    assert len(by_name.neighbors) == 3


def test_a_query_need_not_be_of_the_source(run: Run, photos: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.png"
    stranger.write_bytes((photos / "cats" / "3.png").read_bytes())
    options = NeighborsOptions(query=(str(stranger),), k=2)
    (found,) = neighbors(run, data=photos, options=options)
    assert found.path == str(stranger) and found.label == ""
    assert found.neighbors[0].path == "cats/3.png"
    assert found.neighbors[0].cosine == pytest.approx(1, abs=1e-5)


def test_there_are_no_more_neighbours_than_readable_images(run: Run, photos: Path) -> None:
    (found, *_) = neighbors(run, data=photos, options=NeighborsOptions(images=20, k=50))
    assert len(found.neighbors) == 12, "13 can be read"
    assert all(near.path != "dogs/6.png" for near in found.neighbors)


def test_one_image_has_no_neighbour_in_itself(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", open_source(run.source).read(57)[None])
    with pytest.raises(DataError, match=r"one\.npy has one readable image"):
        neighbors(run, data=tmp_path / "one.npy")


def test_the_picture_frames_another_class(run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "n.png"
    options = NeighborsOptions(query=("cats/0.png",), k=1, side=64)  # the copy, among the dogs
    neighbors(run, data=photos, out=out, options=options)
    with Image.open(out) as sheet:
        colours = {colour: count for count, colour in sheet.getcolors(1 << 20) or []}
    frame = 72 * 72 - 64 * 64
    assert colours[0xD5, 0x5E, 0x00] >= frame and colours[0x1D, 0x1D, 0x26] >= frame
    with_cats = tmp_path / "cats.png"
    neighbors(run, data=photos / "cats", out=with_cats, options=options_of("0.png"))
    with Image.open(with_cats) as sheet:
        alike = {colour for _, colour in sheet.getcolors(1 << 20) or []}
    assert (0xD5, 0x5E, 0x00) not in alike, "no classes, no frames"


def options_of(*query: str) -> NeighborsOptions:
    return NeighborsOptions(query=query, k=2, side=64)


def test_tables_hold_what_the_picture_shows(run: Run, photos: Path, tmp_path: Path) -> None:
    options = NeighborsOptions(images=2, k=3)
    found = neighbors(run, data=photos, out=tmp_path / "n.csv", options=options)
    neighbors(run, data=photos, out=tmp_path / "n.json", options=options)
    with (tmp_path / "n.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tree = json.loads((tmp_path / "n.json").read_text())
    assert [{name: str(value) for name, value in row.items()} for row in tree] == rows
    assert len(rows) == 6 and [row["rank"] for row in rows] == ["1", "2", "3"] * 2
    flat = [(each, near) for each in found for near in each.neighbors]
    for row, (each, near) in zip(tree, flat, strict=True):
        assert (row["query"], row["query_class"]) == (each.path, each.label)
        assert (row["path"], row["class"]) == (near.path, near.label)
        assert row["cosine"] == pytest.approx(near.cosine, abs=1e-6)


def test_the_lines_count_copies_and_classes() -> None:
    near = (Neighbor(1, "b", "cat", 0.9995), Neighbor(2, "c", "dog", 0.9), Neighbor(3, "d", "", 0))
    text = "\n".join(neighbors_file.lines([Found("a", "cat", near)]))
    assert "1 of 3 neighbours have a cosine above 0.999: copies" in text
    assert "1 of 2 neighbours are of their query's class" in text
    assert "0.9995  b  (cat)" in text
    bare = "\n".join(neighbors_file.lines([Found("a", "", near[1:])]))
    assert "0 of 2 neighbours have a cosine above 0.999." in bare and "class" not in bare


def test_the_verb_prints_and_draws(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "n.png"
    command = ["neighbors", str(run.path), "--out", str(out), "--k", "2"]
    assert main([*command, "--data", str(photos), "--query", "cats/0.png", "dogs/2.png"]) == 0
    shown = capsys.readouterr().out
    assert "cats/0.png  (cats)" in shown and "dogs/copy.png  (dogs)" in shown
    assert "1 of 4 neighbours have a cosine above 0.999" in shown
    assert main(command) == 2 and "is there already" in capsys.readouterr().err
    before = out.read_bytes()
    assert main([*command, "--overwrite"]) == 0 and out.read_bytes() != before
    assert [each.name for each in tmp_path.iterdir()] == ["n.png"]


def test_any_encoder_is_searched_with(run: Run, tmp_path: Path) -> None:
    command = ["neighbors", "torchvision:resnet18", "--out", str(tmp_path / "n.json")]
    assert main([*command, "--data", run.source, "--size", "32", "--images", "1"]) == 0
    assert len(json.loads((tmp_path / "n.json").read_text())) == 8


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--out n.npz", "must end in .png, .jpg, .jpeg, .pdf, .csv or .json"),
        ("--out n.png --k 0", "k=0 must be from 1 to 100"),
        ("--out n.png --images 101", "images=101 must be from 1 to 100"),
        ("--out n.png --query nothing", "--query nothing is no file and no readable image of"),
        ("--out n.png --query text.txt", "text.txt can't be read: not an image"),
        ("--out n.png --device abacus", "abacus"),
        ("--out n.png --encoder resnet18", "drop --encoder"),
    ],
)
def test_what_cannot_be_searched_is_said(
    run: Run,
    flags: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("no image")
    assert main(["neighbors", str(run.path), *flags.split()]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert [each.name for each in tmp_path.iterdir()] == ["text.txt"]


def test_settings_are_checked_when_they_are_made() -> None:
    for wrong in ({"k": 101}, {"seed": -1}, {"side": 10}, {"images": 100, "k": 100, "side": 500}):
        with pytest.raises(RecipeError):
            NeighborsOptions(**wrong)
