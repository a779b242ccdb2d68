"""Numbers of runs as one HTML page; torch is never loaded."""

from squint.report.page import report

__all__ = ["report"]
