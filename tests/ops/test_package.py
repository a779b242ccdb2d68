"""`squint.ops` as a user without our checks of shapes and types meets it."""

import subprocess
import sys


def said(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_public_modules_are_there_in_a_new_interpreter() -> None:
    done = said("import squint\nfor name in squint.ops.__all__: getattr(squint.ops, name)")
    assert done.returncode == 0, done.stderr


def test_a_temperature_that_would_get_no_gradient_is_refused() -> None:
    done = said(
        "import torch\nfrom squint.ops import contrast\nz = torch.randn(4, 8)\n"
        "contrast.nt_xent(z, z, temperature=torch.tensor(0.2, requires_grad=True))"
    )
    assert "RunError: temperature is a tensor" in done.stderr
