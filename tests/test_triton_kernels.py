"""All Triton kernels compile for GPUs that are not here, and fit on their chips."""

import subprocess
import sys

import pytest

from interpreter import needs_triton

SHARED = '''
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from squint.ops import contrast_triton_kernels as contrast, vmf_triton_kernels as vmf
from squint.views import blur_triton_kernels as blur
from squint.views import crop_triton_kernels as crop, look_triton_kernels as look

capability, room = int(sys.argv[1]), int(sys.argv[2])
NUMBERS, BITS, WIDE = "*fp32", "*i1", "*i64"


def shared(kernel, constants, pointers, floats=(), **options):
    """Bytes on the chip; arguments that are not said to be anything else are int32."""
    names = kernel.arg_names
    types = of("i32", *names) | of("fp32", *floats) | pointers | of("constexpr", *constants)
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=types, constexprs=values)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return compiled.metadata.shared


def of(kind, *names):
    return dict.fromkeys(names, kind)
'''

VIEWS_AND_SAMPLER = """
ends = ("mean_r", "mean_g", "mean_b", "std_r", "std_g", "std_b")
looks = of(NUMBERS, "brightnesses", "contrasts", "saturations", "hues", "out") | of(
    BITS, "flips", "jitters", "grays", "solarizes"
)
sizes = [
    shared(
        look._crop,
        {"ROWS": look.ROWS, "COLUMNS": look.COLUMNS},
        {"pixels": "*u8", "crops": NUMBERS, "flip": BITS}
        | of(WIDE, "top", "left", "height", "width"),
    ),
    shared(
        crop._crops,
        {"ROWS": crop.ROWS, "COLUMNS": crop.COLUMNS},
        {"table": WIDE, "result": "*u8"},
    ),
]
for tensorflow in (False, True):
    flags = look.Flags(False, True, True, True, True, True, tensorflow, tensorflow)
    rest = {"BYTES": tensorflow, "FLIP": tensorflow, "FINISH": True, "SOLARIZE": tensorflow}
    sizes.append(
        shared(
            look._colour,
            flags._asdict() | rest | {"PIXELS": look.PIXELS},
            looks | {"order": WIDE, "images": "*u8" if tensorflow else NUMBERS},
            floats=ends,
        )
    )
    turns = of(NUMBERS, "images", "across", "sigmas", "out") | of(BITS, "blurs", "solarizes")
    constants = {"REFLECT": tensorflow, "PIXELS": look.PIXELS}
    sizes.append(shared(blur._blur_across, constants, of(NUMBERS, "images", "across", "sigmas")
        | of(BITS, "blurs")))
    sizes.append(shared(blur._blur_down, constants | {"SOLARIZE": True}, turns, floats=ends))
sizes.append(
    shared(
        vmf._angles,
        {"ROWS": vmf.ROWS, "PROPOSALS": vmf.PROPOSALS},
        {"key": WIDE} | of("*fp64", "kappas", "gaps") | of(NUMBERS, "cosines", "sines"),
    )
)
sizes.append(shared(vmf._place, {"WIDTH": 256}, {"key": WIDE} | of(NUMBERS, "mu", "cosines",
    "sines", "z")))
sizes.append(shared(vmf._mean_gradient, {"WIDTH": 4096}, of(NUMBERS, "mu", "z", "grad", "result")))
assert max(sizes) <= room, sizes
print("fit")
"""

CONTRAST = """
for width in (128, 256):
    for blocks in contrast.CHOICE:
        constants = {"ROWS": blocks.rows, "COLUMNS": blocks.columns, "WIDTH": width}
        codes = of(NUMBERS, "anchors", "keys")
        needs = [
            shared(
                kernel, constants, codes | of(NUMBERS, *more),
                floats=("scale",), num_stages=blocks.stages,
            )
            for kernel, more in (
                (contrast._sums, ("total", "top")),
                (contrast._by_anchors, ("every", "gradient")),
                (contrast._by_keys, ("every", "gradient")),
            )
        ]
        if max(needs) <= room:
            break
    else:
        raise AssertionError(f"no blocks of {width} dimensions fit into {room} bytes: {needs}")
print("fit")
"""


def fits(code: str, capability: int, kibibytes: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHARED + code, str(capability), str(1024 * kibibytes)],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "fit\n", done.stderr


@needs_triton
def test_kernels_of_views_and_sampler_compile() -> None:
    fits(VIEWS_AND_SAMPLER, 90, 227)


@needs_triton
@pytest.mark.slow  # minutes of compiling
@pytest.mark.parametrize(("capability", "kibibytes"), [(89, 99), (90, 227)], ids=["RTX 40", "H100"])
def test_some_blocks_of_the_contrastive_kernels_fit(capability: int, kibibytes: int) -> None:
    fits(CONTRAST, capability, kibibytes)
