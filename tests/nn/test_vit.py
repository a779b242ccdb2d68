"""MoCo v3's ViT: timm's with 12 heads, its own first weights, and a table of positions."""

import math

import pytest
import torch

from golden import cases
from squint.errors import RecipeError
from squint.nn import encoders
from squint.nn.vit import LAYOUTS, VisionTransformer, sincos_2d
from squint.train.optim import parameter_groups


def tiny(**settings):
    return VisionTransformer(48, 2, **settings)


def positions(rows, columns, dim):
    """The table for patches that come row by row, one entry at a time."""
    waves = [10000 ** (-j / (dim // 4)) for j in range(dim // 4)]
    table = [[0.0] * dim]
    for row in range(rows):
        for column in range(columns):
            of_row = [f(row * u) for f in (math.sin, math.cos) for u in waves]
            of_column = [f(column * u) for f in (math.sin, math.cos) for u in waves]
            table.append(of_row + of_column)
    return torch.tensor([table])


@pytest.mark.parametrize("case", cases("moco_v3", lambda case: "grid_h" in case.settings))
def test_positions_equal_the_official_ones(case):
    given = case.settings
    table = sincos_2d(given["grid_h"], given["grid_w"], given["dim"], float(given["temperature"]))
    torch.testing.assert_close(table, case["pos_embed"], atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(("rows", "columns"), [(14, 14), (6, 6), (2, 5)])
def test_a_patch_has_the_position_of_its_row_and_column(rows, columns):
    table = tiny()._positions(rows, columns)
    torch.testing.assert_close(table, positions(rows, columns, 48), atol=2e-6, rtol=0.0)


@pytest.mark.parametrize("width", ["small", "base"])
def test_weights_load_strictly_into_timm_both_ways(width):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        name = f"vit_{width}_patch16_224"
        theirs = timm.create_model(name, pretrained=False, num_classes=0, num_heads=12)
        ours = encoders.build(f"mocov3_vit_{width}")
    theirs.load_state_dict(ours.state_dict(), assign=True)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.dim == theirs.num_features == {"small": 384, "base": 768}[width]
    assert {block.attn.num_heads for block in ours.blocks} == {12}
    assert {ours.norm.eps, *(block.norm1.eps for block in ours.blocks)} == {1e-6}


def test_equals_timm_with_the_same_weights():
    transformer = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    ours = tiny().eval()
    theirs = transformer.VisionTransformer(num_classes=0, embed_dim=48, depth=2, num_heads=12)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = theirs.eval()(images)
        torch.testing.assert_close(ours(images), expected)
    assert expected.std() > 0.1


def test_other_sizes_equal_timm_built_for_them():
    transformer = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    ours = tiny().eval()
    theirs = transformer.VisionTransformer(
        img_size=(48, 80), num_classes=0, embed_dim=48, depth=2, num_heads=12
    )
    theirs.load_state_dict({**ours.state_dict(), "pos_embed": positions(3, 5, 48)})
    images = torch.randn(2, 3, 48, 80)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("conv_stem", [False, True])
def test_sizes_may_change_and_must_be_multiples_of_16(conv_stem):
    encoder = tiny(conv_stem=conv_stem).eval()
    with torch.no_grad():
        for height, width in [(16, 16), (96, 96), (32, 64)]:
            assert encoder(torch.randn(2, 3, height, width)).shape == (2, 48)
        with pytest.raises(RecipeError, match=r"40x32 px.*views\.size and views\.evaluation\.size"):
            encoder(torch.randn(2, 3, 40, 32))


def uniform(weight, fans):
    bound = math.sqrt(6 / fans)
    largest = weight.abs().max().item()
    assert 0.99 * bound < largest <= bound * (1 + 1e-6)
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_first_weights(in_channels):
    torch.manual_seed(0)
    encoder = VisionTransformer(96, 2, in_channels=in_channels)
    uniform(encoder.patch_embed.proj.weight, in_channels * 256 + 96)
    for block in encoder.blocks:
        uniform(block.attn.qkv.weight, 96 + 96)
        uniform(block.attn.proj.weight, 96 + 96)
        uniform(block.mlp.fc1.weight, 96 + 384)
        uniform(block.mlp.fc2.weight, 384 + 96)
    biases = [value for name, value in encoder.named_parameters() if name.endswith("bias")]
    assert len(biases) == 2 + 2 * 6 and all(bias.count_nonzero() == 0 for bias in biases)
    assert encoder.cls_token.std().item() == pytest.approx(1e-6, rel=0.3)


def test_same_seed_same_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return tiny(conv_stem=True).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def trained(encoder):
    groups = parameter_groups(encoder, weight_decay=0.1, decay_norm_and_bias=False)
    return {name for group in groups for name, _ in group["params"]}


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({}, {"patch_embed.proj.weight", "patch_embed.proj.bias"}),
        ({"freeze_patch": False}, set()),
        ({"conv_stem": True}, set()),
    ],
)
def test_gradient_reaches_all_that_the_optimiser_gets(settings, frozen):
    encoder = tiny(**settings)
    encoder(torch.randn(2, 3, 32, 32)).square().mean().backward()
    params = dict(encoder.named_parameters())
    assert {name for name, param in params.items() if not param.requires_grad} == frozen
    assert {name for name, param in params.items() if param.grad is None} == frozen
    assert params.keys() - trained(encoder) == frozen
    assert not encoder.pos_embed.requires_grad and "pos_embed" not in trained(encoder)


def test_conv_stem():
    with torch.device("meta"):
        stem = encoders.build("mocov3_vit_conv_small").patch_embed.proj
    assert [conv.out_channels for conv in (stem[0], stem[3], stem[6], stem[9])] == [
        48,
        96,
        192,
        384,
    ]
    assert all(stem[i].bias is None and stem[i].stride == (2, 2) for i in (0, 3, 6, 9))
    assert stem[12].kernel_size == (1, 1) and stem[12].bias is not None


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_build(name):
    with torch.device("meta"):
        encoder = encoders.build(name, in_channels=1)
        features = encoder(torch.randn(2, 1, 32, 32))
    assert features.shape == (2, encoder.dim)
    assert len(encoder.blocks) == (11 if "conv" in name else 12)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mocov3_vit_small", {"stem": "cifar"}, "stem=cifar has no effect"),
        ("mocov3_vit_small", {"width": 2.0}, "width=2.0 has no effect"),
        ("mocov3_vit_small", {"zero_init_residual": False}, "zero_init_residual=False has no"),
        ("mocov3_vit_small", {"init": "torchvision"}, "init=torchvision has no effect"),
        ("mocov3_vit_conv_base", {"freeze_patch": False}, "freeze_patch=False has no effect"),
        ("resnet18", {"freeze_patch": False}, "choose one of mocov3_vit_small, mocov3_vit_base"),
        ("timm/resnet18", {"freeze_patch": False}, "freeze_patch=False has no effect"),
        ("mocov3_vit_smal", {}, "Did you mean mocov3_vit_small"),
    ],
)
def test_errors_name_the_value_and_a_remedy(name, settings, message):
    with pytest.raises(RecipeError, match=message):
        encoders.build(name, **settings)
