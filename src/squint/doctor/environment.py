"""What this machine has: versions, device, kernels, memory, disks and limits."""

import os
import platform
import re
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from squint.data.cachedir import cache_directory
from squint.doctor.findings import Finding, Section, note, ok, problem
from squint.doctor.text import human_bytes

_NAMED = ("torch", "torchvision", "timm")
_GIB = 2**30
_FEW_FILES = 256
_SHARED = Path("/dev/shm")
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Where something is written."""

    path: str
    free_bytes: int
    writable: bool


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What training would find here."""

    versions: dict[str, str]
    """By package, and of Python; "" where it is not installed."""
    demanded: dict[str, str]
    """Of those that are missing or too old: what Squint needs."""
    torchvision_error: str
    """What importing torchvision says, if it fails."""
    device: str
    """What was asked for, or what auto takes."""
    device_name: str
    devices: int
    """Of that kind."""
    unseen_gpu: bool
    """An NVIDIA driver is there, and torch finds no GPU."""
    precision: str
    """What auto takes."""
    free_bytes: int | None
    """Of the device's memory; on a CPU, of the machine's or container's. None where nobody says."""
    cores: int
    threads: int
    kernels: bool
    """Whether the native kernels are built: views, losses, sampler."""
    jpeg: bool
    """Whether the native JPEG decoder is."""
    triton: str
    """On CUDA, why there is no Triton; "" where there is, or no CUDA."""
    cache: Disk
    working: Disk
    shared_bytes: int | None
    """Free in /dev/shm."""
    open_files: int | None
    """Most that a process may have open."""


def look(device: str = "auto") -> Machine:
    """Look at this machine; writes nothing.

    Args:
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        SquintError: there is no such device.
    """
    import torch

    from squint import native, trial
    from squint.device import choose_device, choose_precision
    from squint.native import jpeg
    from squint.train.runtime import cores

    chosen = choose_device(device)
    versions = {"python": platform.python_version()} | {name: _version(name) for name in _NAMED}
    cuda = chosen.type == "cuda"
    return Machine(
        versions=versions,
        demanded=_demanded(),
        torchvision_error=_torchvision_error(),
        device=str(chosen),
        device_name=torch.cuda.get_device_name(chosen) if cuda else platform.machine(),
        devices=torch.cuda.device_count() if cuda else 1,
        unseen_gpu=_DRIVER.exists() and not torch.cuda.is_available(),
        precision=choose_precision("auto", chosen),
        free_bytes=_free_bytes(str(chosen)),
        cores=cores(),
        threads=torch.get_num_threads(),
        kernels=native.library() is not None,
        jpeg=jpeg.library() is not None,
        triton=trial.absent(chosen) if cuda else "",
        cache=_disk(cache_directory()),
        working=_disk(Path.cwd()),
        shared_bytes=shutil.disk_usage(_SHARED).free if _SHARED.is_dir() else None,
        open_files=_open_files(),
    )


def section(machine: Machine) -> Section:
    """What was found, told."""
    findings = [
        _of_versions(machine),
        *_of_device(machine),
        *_of_kernels(machine),
        *_of_disks(machine),
        *_of_limits(machine),
    ]
    return Section(title="Environment", findings=tuple(findings), facts=machine)


def _of_versions(machine: Machine) -> Finding:
    told = ", ".join(
        f"{'Python' if name == 'python' else name} {version or '(missing)'}"
        for name, version in machine.versions.items()
    )
    if machine.demanded:
        needed = " ".join(f"'{name}{what}'" for name, what in machine.demanded.items())
        return problem(
            f"{told}: Squint needs {', '.join(machine.demanded)} that are newer, or at all",
            f"pip install --upgrade {needed}",
            prevents_training=True,
        )
    if machine.torchvision_error:
        return problem(
            f"{told}: torchvision can't be imported ({machine.torchvision_error})",
            "Install the torchvision that was built for this torch, from the same place.",
            prevents_training=True,
        )
    return ok(told)


def _of_device(machine: Machine) -> list[Finding]:
    free = "" if machine.free_bytes is None else f", {human_bytes(machine.free_bytes)} free"
    name = f"{machine.device} ({machine.device_name}{free})"
    several = f", one of {machine.devices}" if machine.devices > 1 else ""
    told = ok(
        f"trains on {name}{several} in {machine.precision}; cores: {machine.cores}, "
        f"threads: {machine.threads}"
    )
    if machine.unseen_gpu:
        wrong = "there is an NVIDIA driver, but torch finds no GPU"
        return [told, problem(wrong, "Install a torch built for the driver's CUDA version.")]
    if machine.device == "cpu" and machine.precision == "float32":
        slow = (
            "this processor does not multiply bfloat16 in hardware: steps take up to twice as long"
        )
        return [told, note(slow)]
    if machine.devices > 1:
        how = "`torchrun --nproc-per-node N -m squint pretrain …` trains on several."
        return [told, note("one process takes one GPU", how)]
    return [told]


def _of_kernels(machine: Machine) -> list[Finding]:
    there = [
        name
        for name, built in (("views and losses", machine.kernels), ("JPEG", machine.jpeg))
        if built
    ]
    found = [ok(f"native kernels: {', '.join(there)}")] if there else []
    if not machine.kernels:
        found.append(
            note(
                "the native kernels are not built: a CPU's views and losses are many times slower",
                "Install gcc or clang, then install Squint again.",
            )
        )
    if not machine.jpeg:
        found.append(
            note(
                "the native JPEG decoder is not built: files are decoded whole",
                "Install a C compiler and libjpeg's headers (apt install gcc libjpeg-dev), then "
                "install Squint again.",
            )
        )
    if machine.triton:
        found.append(
            note(f"no Triton ({machine.triton}): views on the GPU are slower", "pip install triton")
        )
    return found


def _of_disks(machine: Machine) -> list[Finding]:
    found: list[Finding] = []
    for what, disk, remedy in (
        ("working directory", machine.working, "Give --out on another disk."),
        ("cache", machine.cache, "Set SQUINT_CACHE to a folder on another disk."),
    ):
        told = f"{what}: {human_bytes(disk.free_bytes)} free at {disk.path}"
        if not disk.writable:
            found.append(note(f"{told}, which can't be written", remedy))
        elif disk.free_bytes < _GIB:
            found.append(problem(told, remedy))
        else:
            found.append(ok(told))
    return found


def _of_limits(machine: Machine) -> list[Finding]:
    found: list[Finding] = []
    if machine.shared_bytes is not None:
        shared = human_bytes(machine.shared_bytes)
        found.append(ok(f"shared memory: {shared} free in /dev/shm; workers need none of it"))
    if machine.open_files is not None and machine.open_files < _FEW_FILES:
        few = f"a process may have only {machine.open_files} files open"
        found.append(problem(few, "`ulimit -n 4096` before training."))
    elif machine.open_files is not None:
        found.append(ok(f"open files: {machine.open_files:,} at most"))
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _demanded() -> dict[str, str]:
    """What Squint's own metadata asks for and this environment does not have."""
    try:
        lines = metadata.requires("squint") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        match = re.match(r"([\w-]+)>=([\d.]+)$", line)  # those of extras go on with a marker
        if match and _numbers(_version(match[1])) < _numbers(match[2]):
            found[match[1]] = f">={match[2]}"
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """2.11.0+cu128 -> (2, 11, 0); of no version: ()."""
    return tuple(map(int, re.findall(r"\d+", re.match(r"[\d.]*", version)[0])))  # pyright: ignore


def _torchvision_error() -> str:
    try:
        import torchvision  # noqa: F401  (fails where it was built for another torch)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return ""


def _free_bytes(device: str) -> int | None:
    import torch

    from squint.train import memory

    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(torch.device(device))[0]
    return memory.free_bytes()


def _disk(path: Path) -> Disk:
    there = next(each for each in (path, *path.parents) if each.exists())
    free, writable = shutil.disk_usage(there).free, os.access(there, os.W_OK)
    return Disk(path=str(path), free_bytes=free, writable=writable)


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
