"""TensorBoard's event file, written by the loop itself.

`SummaryWriter` writes from a thread: what a full disk or a moved folder does to it ends as a
traceback between the lines of training, and nobody is told.
"""

# pyright: reportAttributeAccessIssue=false
# protobuf makes these names when it is loaded

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class Board:
    """One session's event file in a run folder.

    On resume, TensorBoard forgets what earlier files have from `first_step` on.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter((folder / name).open("wb"))
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of a step, each under its name.

        Raises:
            OSError: the disk is full or the folder is gone.
        """
        values = [Summary.Value(tag=name, simple_value=each) for name, each in numbers.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()
