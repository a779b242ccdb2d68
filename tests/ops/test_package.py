"""The modules of `squint.ops` are there without an import of their own."""

import subprocess
import sys


def test_the_public_modules_are_there_in_a_new_interpreter() -> None:
    probe = "import squint\nfor name in squint.ops.__all__: getattr(squint.ops, name)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
