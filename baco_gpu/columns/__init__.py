"""Models with many tables: which columns of ids tell of one another, and one budget for all of them."""

from baco_gpu.columns.compress_tables import TablesReport, compress_tables
from baco_gpu.columns.plan import Plan, PlannedTable

__all__ = ["Plan", "PlannedTable", "TablesReport", "compress_tables"]
