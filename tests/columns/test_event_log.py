"""The columns that a model is trained on: forms that they come in, and what is refused, by name."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import torch
from torch import nn

from baco_gpu.columns.event_log import columns_of, names_in
from baco_gpu.errors import InputError

TABLES = {"user": nn.Embedding(5, 2), "tags": nn.EmbeddingBag(4, 2, padding_idx=0)}
USERS, TAGS = np.array([4, 0, 0]), np.array([[1, 0], [2, 3], [0, 0]])


def refusal(data: object) -> str:
    with pytest.raises(InputError) as caught:
        columns_of({name: TABLES[name] for name in names_in(data)}, data)
    return str(caught.value)


def test_a_column_has_one_id_an_event_or_several():
    users, tags = columns_of(TABLES, {"user": torch.tensor(USERS), "tags": TAGS})
    assert users.events is None
    assert users.counts.tolist() == [2, 0, 0, 0, 1]
    assert (tags.ids.tolist(), tags.events.tolist(), tags.num_events) == ([1, 2, 3], [0, 1, 1], 3)
    assert tags.counts[0] == 0, "padding is no id"


def test_bags_come_as_ids_and_offsets_too():
    (tags,) = columns_of({"tags": TABLES["tags"]}, {"tags": (np.array([1, 2, 3]), np.array([0, 1, 3]))})
    assert (tags.ids.tolist(), tags.events.tolist(), tags.num_events) == ([1, 2, 3], [0, 1, 1], 3)


def test_a_data_frame_is_read_by_its_columns():
    frame = pandas.DataFrame({"user": USERS})
    assert names_in(frame) == ["user"]
    (users,) = columns_of({"user": TABLES["user"]}, frame)
    assert users.ids.tolist() == USERS.tolist()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (USERS, "data must be a mapping of names of tables to ids, or a data frame, got ndarray"),
        ({}, "data must have a column of one table at least, got none"),
        ({3: USERS}, "data must name tables of the model, got 3"),
        ({"user": [0.5]}, "data of 'user' must be integers, got float64"),
        ({"user": [[1], [2, 3]]}, "data of 'user' must be integers, got list"),
        ({"user": np.zeros((2, 2, 2), int)}, r"data of 'user' must have shape (events,) or (events, ids of one)"),
        ({"user": np.zeros(0, int)}, "data of 'user' must have events, got none"),
        ({"user": [0, 5]}, "data of 'user' must be from 0 to 4, as the table has rows, got 5"),
        ({"user": [0, -1]}, "data of 'user' must be from 0 to 4, as the table has rows, got -1"),
        ({"tags": [0, 0]}, "data of 'tags' must have ids other than padding (0), got none"),
        ({"user": USERS, "tags": TAGS[:2]}, "data of 'tags' must have as many events as 'user' (3), got 2"),
        ({"tags": (USERS,)}, "data of 'tags' must be ids, or a pair of ids and offsets, got a tuple of 1"),
        ({"tags": (TAGS, USERS)}, "data of 'tags' must be ids and offsets of one dimension"),
        ({"tags": ([1, 2], [0, 3])}, "data of 'tags' must have offsets that begin at 0 and ascend to at most 2"),
    ],
)
def test_what_a_column_must_be_is_told_by_its_name(data: object, told: str):
    assert refusal(data).startswith(told)
