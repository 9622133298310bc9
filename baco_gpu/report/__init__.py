"""A clustering as one HTML page: what `baco report` writes."""

from baco_gpu.report.page import report_page, write_report

__all__ = ["report_page", "write_report"]
