"""Builds the native kernels where there is a C compiler; without one, torch does their work.

Everything else about the package is in pyproject.toml.
"""

from pathlib import Path

from setuptools import Extension, setup

FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fvisibility=hidden",
    "-fopenmp-simd",  # honours `omp simd` and needs no OpenMP at run time
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-ffinite-math-only",  # a comparison is then a minimum or maximum; no number here is NaN
    "-Wall",
    "-Wno-psabi",
]

ROOM = Path("src/squint/native")

# Not a Python module: a library that squint.native loads with ctypes.
kernels = Extension(
    "squint.native._kernels",
    sources=sorted(str(path) for path in ROOM.glob("*.c") if path.name != "jpeg.c"),
    depends=sorted(map(str, ROOM.glob("*.h"))),
    extra_compile_args=FLAGS,
    libraries=["m"],
    optional=True,
)

# By itself: where libjpeg's header is missing (libjpeg-dev), only this one is left out.
jpeg = Extension(
    "squint.native._jpeg",
    sources=[str(ROOM / "jpeg.c")],
    extra_compile_args=FLAGS,
    libraries=["jpeg"],
    optional=True,
)

setup(ext_modules=[kernels, jpeg])
