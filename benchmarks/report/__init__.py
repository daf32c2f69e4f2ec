"""A result as one HTML page that needs nothing else: no network, no script, no font."""

from benchmarks.report.page import render_report

__all__ = ["render_report"]
