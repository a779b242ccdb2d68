"""Vision Transformer of MoCo v3 (Chen et al. 2021), made of the parts of timm's.

| name                  | width | depth | patches                                            |
|-----------------------|-------|-------|----------------------------------------------------|
| mocov3_vit_small      | 384   | 12    | one linear map of 16x16 pixels, random and frozen   |
| mocov3_vit_base       | 768   | 12    | likewise                                           |
| mocov3_vit_conv_small | 384   | 11    | five convolutions with stride 16 in all, trained    |
| mocov3_vit_conv_base  | 768   | 11    | likewise                                           |

All have 12 heads (timm's vit_small has 6; no weight file shows the number). timm is imported
when such an encoder is built, not before.
"""

import functools
import importlib
import itertools
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from squint.errors import RecipeError
from squint.nn._encoder import Encoder
from squint.shapes import Features, Image

LAYOUTS: dict[str, tuple[int, int, bool]] = {
    "mocov3_vit_small": (384, 12, False),
    "mocov3_vit_base": (768, 12, False),
    "mocov3_vit_conv_small": (384, 11, True),
    "mocov3_vit_conv_base": (768, 11, True),
}
"""Width, depth, and whether convolutions make the patches."""

LINEAR_PATCHES = [name for name, (_, _, conv_stem) in LAYOUTS.items() if not conv_stem]
"""Names of those whose patches are one linear map: it can be frozen."""

_PATCH = 16
_HEADS = 12
_SAVED_SIZE = 224
_SAVED_GRID = (_SAVED_SIZE // _PATCH, _SAVED_SIZE // _PATCH)


class VisionTransformer(Encoder):
    """MoCo v3's ViT without a head: (n, c, h, w) -> (n, f), the class token after the last norm.

    Sides of the images may be any multiples of 16, from one batch to the next too: positions
    are a formula, computed for the grid at hand. Key names are those of timm's
    VisionTransformer; `pos_embed` is the table of 224 px, a buffer here and a parameter there.

    Args:
        dim: width f, a multiple of 4 and of the 12 heads.
        depth: number of blocks.
        conv_stem: patches by convolutions ("early convolutions", Xiao et al. 2021).
        in_channels: channels of the images.
        freeze_patch: the linear patch projection keeps its random weights, which steadies
            training (Chen et al. 2021, section 4). No effect with conv_stem.
    """

    pos_embed: Tensor

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        conv_stem: bool = False,
        in_channels: int = 3,
        freeze_patch: bool = True,
    ) -> None:
        super().__init__()
        parts = _timm_parts(dim, depth, in_channels)
        self.cls_token: nn.Parameter = parts.cls_token
        self.register_buffer("pos_embed", sincos_2d(*_SAVED_GRID, dim))
        self.patch_embed: nn.Module = parts.patch_embed
        self.blocks: nn.Sequential = parts.blocks
        self.norm: nn.LayerNorm = parts.norm
        self.dim = dim
        self._start()
        if conv_stem:
            self.patch_embed.proj = _conv_stem(in_channels, dim)
        elif freeze_patch:
            self.patch_embed.requires_grad_(False)

    def forward(self, images: Image) -> Features:
        """Class token after the last norm, (n, c, h, w) -> (n, f), h and w multiples of 16.

        Raises:
            RecipeError: a side is not a multiple of 16.
        """
        rows, columns = _grid(images)
        patches = self.patch_embed.get_submodule("proj")(images)  # (n, f, rows, columns)
        patches = patches.flatten(2).transpose(1, 2)  # (n, rows columns, f)
        class_token = self.cls_token.expand(images.shape[0], -1, -1)  # (n, 1, f)
        tokens = torch.cat((class_token, patches), dim=1)  # (n, 1 + rows columns, f)
        tokens = self.blocks(tokens + self._positions(rows, columns))
        return self.norm(tokens[:, 0])  # (n, f)

    def _positions(self, rows: int, columns: int) -> Tensor:
        if (rows, columns) == _SAVED_GRID:
            return self.pos_embed
        # differs from MoCo v3's code: there the slow axis runs over columns while patches come
        # row by row, the same on squares (all it is used for), scrambled on other grids.
        return sincos_2d(columns, rows, self.dim, device=self.pos_embed.device).to(
            self.pos_embed.dtype
        )

    @torch.no_grad()
    def _start(self) -> None:
        """Draw the weights of Chen et al. 2021: each by its own fan-in plus fan-out."""
        nn.init.normal_(self.cls_token, std=1e-6)
        projection = self.patch_embed.get_submodule("proj")
        assert isinstance(projection, nn.Conv2d), "timm projects patches by one convolution"
        _uniform(projection, fans=projection.weight[0].numel() + self.dim)
        blocks: Any = self.blocks
        for path, module in blocks.named_modules():
            if isinstance(module, nn.Linear):
                # queries, keys and values are three matrices that lie in one
                outputs = module.out_features // (3 if path.endswith("qkv") else 1)
                _uniform(module, fans=module.in_features + outputs)


def build(name: str, *, in_channels: int, freeze_patch: bool) -> VisionTransformer:
    """A randomly initialised encoder of the module's table."""
    dim, depth, conv_stem = LAYOUTS[name]
    return VisionTransformer(
        dim, depth, conv_stem=conv_stem, in_channels=in_channels, freeze_patch=freeze_patch
    )


def sincos_2d(
    height: int,
    width: int,
    dim: int,
    temperature: float = 10000.0,
    *,
    device: torch.device | None = None,
) -> Float[Tensor, "1 tokens {dim}"]:
    """Fixed position table of MoCo v3 (Chen et al. 2021, code): 1 + height * width rows.

    Row 0, the class token's, is zero. Row 1 + i * height + j is that of p1 = i, p2 = j: the
    slow axis runs over `width`. Channels are dim / 4 each of sin(p1 u), cos(p1 u), sin(p2 u),
    cos(p2 u) with u_k = temperature^(-k / (dim / 4)).

    Args:
        height: length of the fast axis.
        width: length of the slow axis.
        dim: channels, a multiple of 4.
        temperature: the longest wave has nearly this length over 2 pi.
        device: of the result.
    """
    assert dim % 4 == 0, f"dim={dim} must be a multiple of 4: two axes, sine and cosine of each"
    quarter = torch.arange(dim // 4, device=device, dtype=torch.float32) / (dim // 4)
    frequencies = temperature**-quarter  # (dim / 4,)
    slow = torch.arange(width, device=device, dtype=torch.float32).repeat_interleave(height)
    fast = torch.arange(height, device=device, dtype=torch.float32).repeat(width)
    p1, p2 = slow[:, None] * frequencies, fast[:, None] * frequencies  # (height width, dim / 4)
    table = torch.cat((p1.sin(), p1.cos(), p2.sin(), p2.cos()), dim=1)  # (height width, dim)
    return nn.functional.pad(table, (0, 0, 1, 0))[None]  # (1, 1 + height width, dim)


def _timm_parts(dim: int, depth: int, in_channels: int) -> Any:
    transformer: Any = importlib.import_module("timm.models.vision_transformer")
    return transformer.VisionTransformer(
        img_size=_SAVED_SIZE,
        patch_size=_PATCH,
        in_chans=in_channels,
        num_classes=0,
        embed_dim=dim,
        depth=depth,
        num_heads=_HEADS,
        mlp_ratio=4.0,
        qkv_bias=True,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
        weight_init="skip",
    )


def _conv_stem(in_channels: int, dim: int) -> nn.Sequential:
    """Four 3x3 convolutions that halve the sides, dim / 8 to dim channels, then a linear map."""
    layers: list[nn.Module] = []
    channels = [in_channels, dim // 8, dim // 4, dim // 2, dim]
    for inputs, outputs in itertools.pairwise(channels):
        layers.append(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False))
        layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.Conv2d(dim, dim, 1))


def _uniform(layer: nn.Linear | nn.Conv2d, fans: int) -> None:
    """Glorot and Bengio 2010: uniform within sqrt(6 / (fan-in + fan-out)); the bias is zero."""
    bound = math.sqrt(6 / fans)
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _grid(images: Tensor) -> tuple[int, int]:
    """Rows and columns of patches."""
    height, width = images.shape[2:]
    if height % _PATCH or width % _PATCH or not height or not width:
        raise RecipeError(
            f"Images of {height}x{width} px can't be cut into patches of {_PATCH}x{_PATCH}: for "
            f"MoCo v3's ViTs both sides must be multiples of {_PATCH}. Set views.size and "
            "views.evaluation.size to such a size."
        )
    return height // _PATCH, width // _PATCH
