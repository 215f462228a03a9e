from __future__ import annotations

import pytest

from sidecar.engines.reports import PREFIX, Loading, Ready, parse


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ('{"state": "loading", "payload": {"value": 0.31, "stage": "x"}}', Loading(0.31)),
        ('{"state": "loading", "payload": {"value": 1}}', Loading(1.0)),
        ('{"state": "loading", "payload": null}', Loading(0.0)),
        ('{"state": "loading"}', Loading(0.0)),
        ('{"state": "ready", "payload": {"n_ctx": 4096}}', Ready()),
        ('{"state": "sleeping"}', None),
        ('["ready"]', None),
        ('{"state": "rea', None),
        ("", None),
    ],
)
def test_a_report_of_llama_cpp_is_read(line: str, meaning: Loading | Ready | None) -> None:
    assert parse(PREFIX + line) == meaning
    assert parse(f"0.01.234 I {PREFIX}{line}\n") == meaning


def test_no_other_line_of_a_log_is_a_report() -> None:
    assert parse('{"state": "ready"}') is None
    assert parse("main: model loaded") is None


@pytest.mark.parametrize("value", ["NaN", "-0.5", "1.5", "Infinity", '"0.3"'])
def test_a_value_that_is_no_share_says_only_that_it_loads(value: str) -> None:
    report = f'{PREFIX}{{"state": "loading", "payload": {{"value": {value}}}}}'
    assert parse(report) == Loading(0.0)
