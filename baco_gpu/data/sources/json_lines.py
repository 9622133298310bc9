"""JSON lines: a line an object, with one interaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from baco_gpu.data.sources.files import File, Files
from baco_gpu.data.sources.formats import FileRows, Format, Reading
from baco_gpu.data.sources.headers import labels_of
from baco_gpu.data.sources.raw_columns import check_types
from baco_gpu.data.sources.rows import Batch
from baco_gpu.data.sources.where import check_columns
from baco_gpu.errors import InputError, brief

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.json

_BLOCK_BYTES = 1 << 22  # the longest line, and what says the types of a file's columns


class JsonRows(FileRows):
    """The rows of files of JSON lines; members of the objects that are not asked for may be anything.

    Raises
    ------
    InputError
        For an empty file, a line that is no object, fewer than two members, a missing one, names that leave open which
        are users and items, and values that are no ids, numbers or timestamps.
    """

    def __init__(self, files: Files, reading: Reading) -> None:
        super().__init__(files, reading.where)
        schema = self._schema(self.files[0])
        header = [*(name for name in schema.names if name not in self.keys), *self.keys]
        self.labels = labels_of(self.source, header, reading.names, list(self.keys))
        check_columns(self.source, self.where, header)
        own = {role: label for role, label in self.labels.items() if label not in self.keys}
        self._types = {label: schema.field(label).type for label in self.own_columns}
        self._types |= {label: _promised(role, self._types[label]) for role, label in own.items()}
        check_types(self.files[0], own, self._promise())

    def batches(self) -> Iterator[Batch]:
        for number, file in enumerate(self.files):
            yield from self.batches_of(number, _read(file, self._promise()))

    def _promise(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema(list(self._types.items()))

    def _schema(self, file: File) -> pa.Schema:
        schema = next(_read(file, None)).schema
        try:
            _ = schema.names  # which Arrow has not looked at
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: expected names of members in UTF-8, but {brief(error)}") from error
        return schema


def _promised(role: str, kind: pa.DataType) -> pa.DataType:
    """What values of this role are read as, where their beginning looks like `kind`."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):  # Arrow has looked into a string
        return pa.string()
    return pa.float64() if role in ("weight", "rating") and pa.types.is_integer(kind) else kind


def _read(file: File, schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
    """The batches of a file; with the members of `schema` alone, where there is one."""
    import pyarrow as pa
    import pyarrow.json

    unexpected = "infer" if schema is None else "ignore"
    try:
        with file.open() as stream:
            yield from pyarrow.json.open_json(
                stream,
                read_options=pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
            )
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: expected JSON, an object a line, but it cannot be read ({brief(error)})") from error


JSON_LINES = Format("jsonl", (".jsonl", ".ndjson", ".json"), JsonRows, compressible=True)
