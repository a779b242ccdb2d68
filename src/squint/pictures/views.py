"""What the model will be shown: a few images of a source, and pairs of their training views.

The views are those of training: a function of (seed, epoch, image), made by the same code, from
pixels in memory where images are small, else from crops of the files.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from squint import files
from squint.data import Bad, Images, Quarantine, Unreadable, pack, permutation
from squint.pictures import canvas, choose
from squint.pictures.canvas import beside, flowing, line, stacked
from squint.pictures.options import ViewsOptions
from squint.recipe import Recipe, leaves
from squint.views import TwoViews
from squint.views.normalise import per_channel
from squint.views.recipes import ViewsConfig

_WITHIN, _BETWEEN = 4, 22
"""Pixels between the views of a pair, and between pairs."""


class Shown(NamedTuple):
    """One image and what training makes of it."""

    path: str
    pixels: UInt8[np.ndarray, "h w c"]
    """As it is."""
    pairs: UInt8[np.ndarray, "pairs 2 s s c"]
    """Both views in each epoch from the first on, without normalisation."""


def draw_views(
    images: Images,
    *,
    recipe: Recipe,
    out: str | Path,
    options: ViewsOptions | None = None,
    title: str = "",
    overwrite: bool = False,
) -> list[Shown]:
    """A sheet of images, with the pairs of views that training by this recipe shows of them.

    Args:
        images: a source; its train split is shown, if it has one.
        recipe: views, seed and channels.
        out: FILE.png, .jpg or .pdf; written whole or not at all.
        options: which images, and how many views.
        title: what the sheet calls the recipe, if not by its own name.
        overwrite: replace the file that is at `out`.

    Raises:
        SquintError: a file that can't be written or is there already, an unknown or unreadable
            image, or a normalisation that does not fit the images.
    """
    options = options or ViewsOptions()
    files.check_file(Path(out), kinds=canvas.PICTURES, overwrite=overwrite)
    shown = views_of(images, recipe, options)
    train = choose.training(images)
    facts = [
        f"{len(shown)} of {len(train):,} images of {train.name}",
        f"views of {recipe.views.size} px",
        f"as training with seed {recipe.train.seed} shows them",
        *canvas.left_out(images.channels),
    ]
    drawn = sheet(shown, recipe, title=title or recipe.name, facts=facts, side=options.side)
    canvas.save(drawn, Path(out))
    return shown


def views_of(images: Images, recipe: Recipe, options: ViewsOptions) -> list[Shown]:
    """Images and their pairs of views; errors as of `draw_views`."""
    train = choose.training(images)
    limit = recipe.data.max_unreadable_percent
    packed = pack(train, max_unreadable_percent=limit)
    train = packed.images if packed else train  # as numbered in training
    views = TwoViews(recipe.views, seed=recipe.train.seed, path=recipe.train.views_path)

    def pair(row: int, epoch: int) -> tuple[Tensor, Tensor]:
        index = torch.tensor([row])
        if packed:
            pixels = torch.from_numpy(packed.pixels[row : row + 1].copy())  # (1, h, w, c)
            return views(pixels.permute(0, 3, 1, 2), index, epoch)
        crops = views.crops_of_picture(train.picture(row), row, epoch)
        return views.finish(crops[None], index, epoch)

    def show(row: int) -> Shown:
        drawn = [torch.stack(pair(row, epoch)) for epoch in range(options.pairs)]
        both = plain(torch.stack(drawn)[:, :, 0], recipe.views)
        return Shown(train.paths[row], train.read(row), both)

    if options.only:
        return [_named(show, row, train) for row in choose.rows_of(options.only, train)]
    shown = _in_order(show, train, recipe.train.seed, limit)
    return list(islice(shown, options.images))


def plain(views: Float[Tensor, "*n c h w"], config: ViewsConfig) -> UInt8[np.ndarray, "*n h w c"]:
    """Views without their normalisation, for the eye."""
    mean, std = torch.tensor(per_channel(config, views.shape[-3])).T[:, :, None, None]
    levels = (views * std + mean).clamp(0, 1).mul(255).round().byte()
    return levels.movedim(-3, -1).numpy()  # (*n, h, w, c)


def sheet(
    shown: Sequence[Shown], recipe: Recipe, *, title: str, facts: Sequence[str], side: int
) -> Image.Image:
    """The picture of `views_of`: a row per image, a column per view, and how strong they are."""
    size = recipe.views.size
    side = side // size * size if size <= side else side  # whole pixels of the views
    rows = [_row(each, side) for each in shown]
    width = max(rows[0].width, canvas.LEAST_WIDTH)
    head = [
        line(f"Views of {title}", width, size=22, bold=True),
        flowing(facts, width, size=14),
        canvas.rule(width),
        *_strengths(recipe, width),
        canvas.rule(width),
    ]
    return stacked([stacked(head, 10), _headings(len(shown[0].pairs), side), *rows], 14)


def strengths(recipe: Recipe) -> dict[str, list[str]]:
    """What may happen to each view, `field value`, under the flag its fields begin with."""
    fields = leaves(recipe)
    shown = [name for name in _FIELDS if recipe.encoder.in_channels == 3 or name not in _OF_RGB]
    found: dict[str, list[str]] = {}
    for view in ("first", "second"):
        values = {name: fields[f"views.{view}.{name}"] for name in shown}
        never = tuple(
            f"{name.partition('.')[0]}."
            for name, value in values.items()
            if name.endswith(".probability") and not value
        )
        found[f"--views.{view}."] = [
            f"{name} {_text(value)}"
            for name, value in values.items()
            if not name.startswith(never) or name.endswith(".probability")
        ]
    return found


_FIELDS = (
    *("crop.area", "flip", "jitter.probability", "jitter.brightness", "jitter.contrast"),
    *("jitter.saturation", "jitter.hue", "gray", "blur.probability", "blur.sigma", "solarize"),
)
_OF_RGB = ("jitter.saturation", "jitter.hue", "gray")
"""What happens to images of three channels alone."""


def _text(value: Any) -> str:
    return "–".join(f"{number:g}" for number in value) if isinstance(value, list) else f"{value:g}"


def _strengths(recipe: Recipe, width: int) -> list[Image.Image]:
    first, second = strengths(recipe).items()
    if first[1] == second[1]:
        blocks = [(f"View 1 and view 2, {first[0]}FIELD and {second[0]}FIELD", first[1])]
    else:
        blocks = [
            (f"View {n}, {flag}FIELD", items) for n, (flag, items) in ((1, first), (2, second))
        ]
    return [
        stacked([line(title, width, bold=True), flowing(items, width)], 3)
        for title, items in blocks
    ]


def _headings(pairs: int, side: int) -> Image.Image:
    both = 2 * side + _WITHIN
    names = beside([line(name, side, align="centre") for name in ("view 1", "view 2")], _WITHIN)
    columns = [
        stacked([line(f"epoch {n + 1}", both, bold=True, align="centre"), names], 0)
        for n in range(pairs)
    ]
    image = stacked([line("", side), line("image", side, align="centre")], 0)
    return beside([image, *columns], _BETWEEN)


def _row(shown: Shown, side: int) -> Image.Image:
    pairs = [beside([canvas.square(view, side) for view in pair], _WITHIN) for pair in shown.pairs]
    pictures = beside([canvas.square(shown.pixels, side), *pairs], _BETWEEN)
    height, width = shown.pixels.shape[:2]
    name = f"{shown.path}   {width} × {height}"
    return stacked([pictures, line(name, pictures.width, size=12, colour=canvas.FAINT)], 2)


def _named(show: Callable[[int], Shown], row: int, images: Images) -> Shown:
    try:
        return show(row)
    except Unreadable as reason:
        raise choose.unreadable(images.paths[row], reason) from None


def _in_order(
    show: Callable[[int], Shown], images: Images, seed: int, limit: float
) -> Iterator[Shown]:
    """The readable images as training meets them in its first epoch."""
    quarantine = Quarantine(images.name, len(images), limit)
    for row in permutation(seed, 0, len(images)).tolist():
        try:
            yield show(row)
        except Unreadable as reason:
            quarantine.add([Bad(images.paths[row], str(reason))])
