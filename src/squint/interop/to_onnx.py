"""An encoder as one ONNX file: images in its normalisation in, features out."""

import importlib
import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from squint import runs
from squint.errors import RunError
from squint.interop.encoder import PretrainedEncoder, input_of

_LIMIT = 2**31 - 2**20
"""Bytes of weights that one file can hold, with room for its graph."""
_TOLERANCE = 1e-3
"""Of the features' largest, by which another runtime's may differ; float32 gives about 1e-6."""


def refusal(encoder: PretrainedEncoder) -> str:
    """A sentence why a file can't hold an encoder; '' if it can."""
    size = sum(value.numel() * value.element_size() for value in encoder.state_dict().values())
    if size <= _LIMIT:
        return ""
    return f"One ONNX file holds 2 GiB, and this encoder has {size / 2**30:.1f} GiB of weights."


def write(out: Path, encoder: PretrainedEncoder) -> str:
    """Write the file, whole or not at all; gives a sentence that says what was compared.

    Raises:
        RunError: it would take no other number of images than the one it was made with, another
            runtime computes other features, or it can't be written.
    """
    onnx: Any = importlib.import_module("onnx")
    size = encoder.views.evaluation.size
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(3, encoder.config.in_channels, size, size, generator=draw)
    proto = _proto(encoder, images[:2])
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise RunError(
            f"The exporter of torch {torch.__version__} makes of {encoder.config.name} a file for "
            "batches of one size only: nothing was written. Take another format, or another torch."
        )
    shown = json.dumps(input_of(encoder.config, encoder.views))
    onnx.helper.set_model_props(proto, {"squint.input": shown})
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    said = _compared(content, encoder, images)
    with runs.replacing(out) as temporary:
        temporary.write_bytes(content)
    return said


def lines(out: Path, encoder: PretrainedEncoder) -> str:
    """Python that computes features with it."""
    views = encoder.views
    channels = encoder.config.in_channels
    shape = ", ".join(("n", str(channels), *[str(views.evaluation.size)] * 2))
    kind = ", RGB" if channels == 3 else ""
    return (
        "import onnxruntime\n"
        f"session = onnxruntime.InferenceSession({str(out)!r})\n"
        f"# images: float32 ({shape}){kind} in 0..1, less {views.mean} over {views.std}\n"
        "(features,) = session.run(['features'], {'images': images})"
    )


def _proto(encoder: PretrainedEncoder, images: torch.Tensor) -> Any:
    loud = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [logger.level for logger in loud]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about the exporter's own insides
        try:
            for logger in loud:
                logger.setLevel(logging.ERROR)
            program = torch.onnx.export(
                encoder.encoder.cpu().eval(),
                (images,),
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise RunError(
                f"The exporter of torch {torch.__version__} can't write {encoder.config.name} "
                f"({reason}): nothing was written. Take another format, or another torch."
            ) from None
        finally:
            for logger, level in zip(loud, levels, strict=True):
                logger.setLevel(level)
    assert program is not None, "the exporter gives a program"
    return program.model_proto


def _compared(content: bytes, encoder: PretrainedEncoder, images: torch.Tensor) -> str:
    if importlib.util.find_spec("onnxruntime") is None:
        return "Checked by onnx; onnxruntime is not installed, so no features were compared."
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(["features"], {"images": images.numpy()})
    with torch.inference_mode():
        ours = encoder(images).numpy()
    difference, largest = np.abs(theirs - ours).max(), np.abs(ours).max()
    if not difference <= _TOLERANCE * largest:
        raise RunError(
            f"onnxruntime {runtime.__version__} computes features that differ by {difference:.2g} "
            f"from ours, of {largest:.2g} at most: nothing was written. Try another version of "
            "torch or onnxruntime."
        )
    return (
        f"onnxruntime {runtime.__version__} gives the same features: largest difference "
        f"{difference:.1e}, of {largest:.2g} at most."
    )
