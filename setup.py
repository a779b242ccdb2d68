"""Builds the native kernels where there is a C compiler; without one, torch does their work.

Everything else about the package is in pyproject.toml.
"""

from setuptools import Extension, setup

FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fvisibility=hidden",
    "-fopenmp-simd",  # honours `omp simd` and needs no OpenMP at run time
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-Wall",
    "-Wno-psabi",
]

# Not a Python module: a library that squint.native loads with ctypes.
kernels = Extension(
    "squint.native._kernels",
    sources=["src/squint/native/resize.c"],
    depends=[
        "src/squint/native/squint.h",
        "src/squint/native/resize.h",
        "src/squint/native/workspace.h",
    ],
    extra_compile_args=FLAGS,
    libraries=["m"],
    optional=True,
)

setup(ext_modules=[kernels])
