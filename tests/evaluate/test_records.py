"""Records become JSON, and come back."""

from __future__ import annotations

import pytest

from tests.evaluate.test_comparison import RECORD
from unsmear.errors import InputError
from unsmear.evaluate.comparison import ComparisonRecord
from unsmear.evaluate.records import record_as_json, record_from_json


def test_json_and_back():
    text = record_as_json(RECORD)
    assert record_from_json(ComparisonRecord, text) == RECORD
    assert text.endswith("}\n")


@pytest.mark.parametrize("text", ["{}", "[]", "no", '{"rows": [1]}'])
def test_other_files_are_refused(text):
    with pytest.raises(InputError, match="not a ComparisonRecord"):
        record_from_json(ComparisonRecord, text)
