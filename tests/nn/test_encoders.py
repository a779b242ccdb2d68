"""Our ResNets equal timm's and torchvision's; foreign models keep their own key names."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from squint.errors import RecipeError
from squint.nn import encoders
from squint.nn.resnet import scaled


def reference(library, name):
    """The other library's ResNet without classifier, on the meta device: shapes only."""
    with torch.device("meta"):
        if library == "timm":
            timm = pytest.importorskip("timm")
            return timm.create_model(name, pretrained=False, num_classes=0)
        models = pytest.importorskip("torchvision.models")
        model = models.get_model(name, weights=None)
        model.fc = nn.Identity()
        return model


def ours(name):
    with torch.device("meta"):
        return encoders.build(name, init="torchvision")


def random_state(model):
    """Weights of a moderate size and positive running variances, cut from one row of noise."""
    noise = torch.randn(2**22)

    def values(name, like):
        if not like.is_floating_point():
            return torch.zeros(like.shape, dtype=like.dtype)
        cut = noise[: like.numel()].view(like.shape)
        if like.ndim == 4:
            return cut * 0.02
        return cut.abs() + 0.5 if "var" in name else cut

    return {name: values(name, like) for name, like in model.state_dict().items()}


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_equals_reference_with_same_weights(library, name):
    torch.manual_seed(0)
    theirs, mine, back = reference(library, name), ours(name), reference(library, name)
    theirs.load_state_dict(random_state(theirs), assign=True)
    mine.load_state_dict(theirs.state_dict(), assign=True)
    back.load_state_dict(mine.state_dict(), assign=True)
    images = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        expected = theirs.eval()(images)
        torch.testing.assert_close(mine.eval()(images), expected)
        torch.testing.assert_close(back.eval()(images), expected)
    assert expected.std() > 1e-3


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("name", ["resnet34", "resnet101", "resnet152"])
def test_resnet_has_the_keys_and_shapes_of_the_reference(library, name):
    def shapes(model):
        return {key: value.shape for key, value in model.state_dict().items()}

    assert shapes(ours(name)) == shapes(reference(library, name))


@pytest.mark.parametrize(
    ("name", "width", "dim"),
    [("resnet10", 0.5, 256), ("resnet18", 0.25, 128), ("resnet50", 0.125, 256)],
)
def test_width_and_dim(name, width, dim):
    encoder = encoders.build(name, stem="cifar", width=width).eval()
    assert encoder.dim == dim
    with torch.no_grad():
        assert encoder(torch.randn(2, 3, 16, 16)).shape == (2, dim)


def test_widths_are_multiples_of_eight():
    assert scaled(64, 1.0) == 64
    assert scaled(64, 0.1) == 8
    assert scaled(64, 0.3) == 16  # 19.2
    assert scaled(64, 0.3125) == 24  # 20: halves go up


def test_cifar_stem_keeps_the_resolution():
    encoder = encoders.build("resnet10", stem="cifar", width=0.125)
    assert encoder.conv1.kernel_size == (3, 3) and encoder.conv1.stride == (1, 1)
    assert encoder.layer1(encoder.maxpool(encoder.conv1(torch.randn(1, 3, 32, 32)))).shape[2] == 32


def test_in_channels():
    encoder = encoders.build("resnet10", stem="cifar", width=0.125, in_channels=5).eval()
    assert encoder(torch.randn(1, 5, 16, 16)).shape == (1, encoder.dim)


def test_same_seed_same_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return encoders.build("resnet10", width=0.125).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_zero_init_residual_starts_blocks_as_their_shortcut():
    def scale(zero):
        encoder = encoders.build("resnet50", width=0.125, zero_init_residual=zero)
        return encoder.layer1[1].bn3.weight

    assert torch.equal(scale(True), torch.zeros(32))
    assert torch.equal(scale(False), torch.ones(32))


def test_simclr_init_has_fan_in_variance_and_is_cut_at_two():
    torch.manual_seed(0)
    weight = encoders.build("resnet10", width=0.5).layer4[0].conv2.weight  # (256, 256, 3, 3)
    unit = weight * (256 * 9) ** 0.5
    assert unit.std().item() == pytest.approx(1.0, abs=5e-3)
    assert unit.abs().max().item() <= 2 / 0.8796256610342398 + 1e-5


def test_haiku_init_is_cut_at_two_and_not_widened():
    torch.manual_seed(0)
    encoder = encoders.build("resnet10", width=0.5, init="haiku")
    for convolution in (encoder.layer4[0].conv2, encoder.layer4[0].conv1):
        unit = convolution.weight * convolution.weight[0].numel() ** 0.5
        assert unit.std().item() == pytest.approx(0.8796, abs=5e-3)
        assert 1.98 < unit.abs().max().item() <= 2 + 1e-5
    assert unit.mean().abs().item() < 5e-3


@pytest.mark.parametrize(
    ("name", "library"),
    [("timm/resnet18", "timm"), ("torchvision/resnet18", "torchvision")],
)
def test_foreign_keeps_its_key_names_in_both_directions(name, library):
    encoder = encoders.build(name)
    assert encoder.state_dict().keys() == reference(library, "resnet18").state_dict().keys()
    wrapped = nn.ModuleDict({"encoder": encoder})
    state = {key: value.clone() for key, value in wrapped.state_dict().items()}
    assert "encoder.conv1.weight" in state
    nn.init.zeros_(encoder.body.conv1.weight)
    wrapped.load_state_dict(state)
    assert torch.equal(encoder.body.conv1.weight, state["encoder.conv1.weight"])
    with pytest.raises(RuntimeError, match="Unexpected key"):
        encoder.load_state_dict({**encoder.state_dict(), "no.such": torch.zeros(1)})


@pytest.mark.parametrize(
    "name",
    ["mobilenetv3_small_050", "torchvision/shufflenet_v2_x0_5", "torchvision/mobilenet_v3_small"],
)
def test_foreign_dim_is_its_output_width(name):
    encoder = encoders.build(name, in_channels=2).eval()
    with torch.no_grad():
        assert encoder(torch.randn(1, 2, 64, 64)).shape == (1, encoder.dim)


def test_bare_names_are_ours_then_timm_then_torchvision():
    assert type(encoders.build("resnet10", width=0.125)).__name__ == "ResNet"
    assert type(encoders.build("shufflenet_v2_x0_5").body).__module__.startswith("torchvision")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet5", {}, "Did you mean resnet50"),
        ("timm/vit_smal_patch16_224", {}, "timm/vit_small_patch16_224"),
        ("torchvision/squeezenet1_0", {}, "0 linear classifiers"),
        ("timm/resnet18", {"stem": "cifar"}, "stem=cifar has no effect"),
        ("vit_tiny_patch16_224", {"width": 2.0}, "width=2.0 has no effect"),
        ("resnet18", {"width": 0.0}, "width=0.0"),
        ("resnet18", {"in_channels": 0}, "in_channels=0"),
    ],
)
def test_errors_name_the_value_and_a_remedy(name, settings, message):
    with pytest.raises(RecipeError, match=message):
        encoders.build(name, **settings)


def test_settings_without_effect_are_named_together_with_their_flags():
    with pytest.raises(RecipeError) as caught:
        encoders.build(
            "vit_tiny_patch16_224", stem="cifar", zero_init_residual=False, init="torchvision"
        )
    said = str(caught.value)
    assert "encoder.stem=cifar, encoder.zero_init_residual=False, encoder.init=torchvision" in said
    assert "--encoder.stem imagenet --encoder.zero-init-residual --encoder.init simclr," in said
    assert "width" not in said


@pytest.mark.parametrize("side", [15, 16])
def test_a_narrow_projection_is_the_strided_convolution(side: int) -> None:
    shortcut = encoders.build("resnet10", width=0.125).layer2[0].downsample[0]
    plain = nn.Conv2d(8, 16, 1, 2, bias=False).double()
    plain.load_state_dict(shortcut.double().state_dict())
    images = torch.randn(2, 8, side, side, dtype=torch.float64)
    for convolution in (shortcut, plain):
        convolution(images).square().sum().backward()
    torch.testing.assert_close(shortcut(images), plain(images), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(shortcut.weight.grad, plain.weight.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_of_few_positions_is_the_convolution(height, width, stride, memory_format):
    encoder = encoders.build("resnet10", width=0.125)
    ours = (encoder.layer2 if stride == 2 else encoder.layer1)[0].conv1.double()
    assert type(ours) is not nn.Conv2d
    plain = nn.Conv2d(8, ours.out_channels, 3, stride, padding=1, bias=False).double()
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(5, 8, height, width, dtype=torch.float64)
    images = images.contiguous(memory_format=memory_format)
    inputs, outputs = [images.clone().requires_grad_() for _ in range(2)], []
    for convolution, x in zip((ours, plain), inputs, strict=True):
        outputs.append(convolution(x))
        outputs[-1].square().sum().backward()
    pairs = [outputs, [x.grad for x in inputs], [ours.weight.grad, plain.weight.grad]]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_few_positions_cost_fewer_products_in_training_alone():
    """And an exported encoder stays a plain stack of convolutions."""
    convolution = encoders.build("resnet10", width=0.125).layer1[0].conv1
    counts = []
    for training in (True, False):
        with FlopCounterMode(display=False) as counter:
            convolution.train(training)(torch.randn(5, 8, 2, 2))
        counts.append(counter.get_total_flops())
    assert counts[0] * 36 == counts[1] * 16


NARROW = """
import torch
from squint.nn import encoders
torch.manual_seed(0)
encoder = encoders.build("resnet10", width=0.125).to(memory_format=torch.channels_last)
for side in (224, 232, 240):
    for enabled in (False, True):
        images = torch.randn(2, 3, side, side).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            features = encoder(images)
        features.float().square().sum().backward()
"""


def test_narrow_encoders_leave_the_heap_alone_at_224_px() -> None:
    """In its own process: oneDNN's fault (see `_NarrowProjection`) ends it, at once or later."""
    done = subprocess.run([sys.executable, "-c", NARROW], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
