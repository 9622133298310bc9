"""Models with many tables: which columns of ids tell of one another, and one budget for all of them."""

from baco_gpu.columns.table_plan import Plan, PlannedTable
from baco_gpu.columns.tables_compression import TablesReport, compress_tables

__all__ = ["Plan", "PlannedTable", "TablesReport", "compress_tables"]
