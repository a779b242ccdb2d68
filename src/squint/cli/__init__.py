"""The command line: verbs to functions. This room alone knows tyro.

torch is imported inside the verbs, after flags, recipe, source and --out have been looked at: a
typing mistake is answered at once.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence

from squint.cli import checking, images, listing, measuring, pictures, reporting, training, weights
from squint.errors import RunError, SquintError

USAGE = """\
squint: learn image representations without labels, compress them, measure what is left

  squint demo                                           SimCLR and C-SimCLR on built-in images
  squint views RECIPE --data SRC --out F.png            picture of what the model will be shown
  squint pretrain RECIPE --data SRC --out RUN [FLAGS]   train; Ctrl-C saves and says how to go on
  squint resume RUN                                     continue exactly where it stopped
  squint sweep RECIPE --over FIELD VALUES --data SRC --out DIR   train at each value, compare
  squint evaluate RUN [--data SRC] [--protocols ...]    kNN, probes, few labels, compression, …
  squint embed RUN --data SRC --out F.npz|.csv|.parquet features, labels, residual information
  squint neighbors RUN --data SRC --out F.png           picture of nearest neighbours
  squint report RUN… [--out F.html]                    one HTML page, several runs side by side
  squint export RUN --format FORMAT --out F             weights for timm, torchvision, hf, onnx, …
  squint import FILE --out E.safetensors                weights of MoCo, solo-learn, lightly, …
  squint pack --data SRC --out DIR                      small copy of large images, loads faster
  squint doctor [--data SRC] [--trial]                  machine, images, duplicates, a recipe
  squint recipes [NAME]                                 list the recipes, or show one in full

RECIPE is METHOD[@SETTING], for example c-simclr@tiny; METHOD is simclr, moco-v1, moco-v2, moco-v3
or byol, with c- in front when compressed.
SRC is a directory, a 'photos/*.jpg' pattern, a .txt list, .tar, .tar.gz, .zip, .npz, .npy,
torchvision:NAME, hf:NAME[:SPLIT], or demo.
`--epochs --batch-size --lr --seed --device --workers` are short for `--train.epochs` and so on
(`--optim.lr`). `squint VERB --help` lists the flags of a verb, `squint pretrain RECIPE --help`
those of that recipe: queue, target, compression, …"""

USER_ERROR = 2
"""Exit status when the user can mend it."""

_DISK_SAYS_NO = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)
"""Full, not ours to write, or no name a file can have: the user's to mend. Any other OSError is a
mistake of ours."""


def entry() -> None:
    """The `squint` command."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one verb; returns the exit status: 0, 2 for the user's mistakes, 130 for Ctrl-C."""
    verbs: dict[str, Callable[[list[str]], None]] = {
        "demo": training.demo,
        "views": pictures.views,
        "pretrain": training.pretrain,
        "resume": training.resume,
        "sweep": training.sweep,
        "evaluate": measuring.evaluate,
        "embed": measuring.embed,
        "neighbors": pictures.neighbors,
        "report": reporting.report,
        "export": weights.export,
        "import": weights.import_,
        "pack": images.pack,
        "doctor": checking.doctor,
        "recipes": listing.recipes,
    }
    known = tuple(verbs)
    verbs |= dict.fromkeys(("-h", "--help", "help"), _usage) | {"--version": _version}
    verb, *rest = arguments or ["--help"]
    try:
        if verb not in verbs:
            raise RunError(f"{verb!r} is not a verb: it must be one of {', '.join(known)}.")
        verbs[verb](rest)
        sys.stdout.flush()  # what can't be written is known here, not at exit
    except SquintError as error:
        print(f"squint {verb}: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt as interrupt:
        print(f"\nsquint {verb}: {str(interrupt) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(interrupt, "signal", signal.SIGINT)
    except BrokenPipeError:  # the reader has seen enough: `squint recipes | head`
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in _DISK_SAYS_NO:
            raise
        if not error.filename:  # it was standard output
            _drop_output()
        where = f": {error.filename}" if error.filename else ""
        print(
            f"squint {verb}: {error.strerror}{where}. Make room, change permissions, or give "
            "another place.",
            file=sys.stderr,
        )
        return USER_ERROR
    except SystemExit as done:  # tyro has printed help (0) or what is wrong with a flag (2)
        return int(done.code or 0)
    return 0


def _drop_output() -> None:
    """Let what Python still wants to write to standard output at exit go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(_: list[str]) -> None:
    print(USAGE)


def _version(_: list[str]) -> None:
    from squint import __version__

    print(f"squint {__version__}")
