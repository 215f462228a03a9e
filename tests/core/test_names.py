from __future__ import annotations

import json

import pytest

from router.names import aliases_of, resolve
from shared.errors import ModelNotFound, Unavailable

MODELS = ["qwen3-8b", "llama3-8b"]


def test_a_model_s_own_id_is_itself() -> None:
    assert resolve("qwen3-8b", MODELS, {}, []) == "qwen3-8b"


def test_an_alias_means_its_model() -> None:
    assert resolve("fast", MODELS, {"fast": "qwen3-8b"}, []) == "qwen3-8b"


def test_an_id_that_some_box_serves_is_never_hidden_by_an_alias() -> None:
    assert resolve("qwen3-8b", MODELS, {"qwen3-8b": "llama3-8b"}, []) == "qwen3-8b"


def test_an_alias_of_a_model_that_no_box_has_is_not_found() -> None:
    with pytest.raises(ModelNotFound):
        resolve("big", MODELS, {"big": "qwen3-235b"}, [])


def test_while_a_box_was_never_heard_a_name_may_be_of_its_models() -> None:
    with pytest.raises(Unavailable, match="Not heard yet: http://b") as caught:
        resolve("big", MODELS, {}, ["http://b"])
    assert (caught.value.code, caught.value.status, caught.value.retry) == (
        "box_unreachable",
        503,
        True,
    )
    assert resolve("qwen3-8b", MODELS, {}, ["http://b"]) == "qwen3-8b"


def test_who_names_a_model_that_is_not_there_is_told_what_there_is() -> None:
    with pytest.raises(ModelNotFound, match=r"llama3-8b, qwen3-8b") as caught:
        resolve("gpt-4", MODELS, {}, [])
    assert "'gpt-4'" in str(caught.value)


@pytest.mark.parametrize("name", ["../../etc/passwd", "QWEN3-8B", "qwen3-8b ", "\ud800", "a\nb"])
def test_a_name_is_looked_up_and_never_mended(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(name, MODELS, {}, [])
    assert json.loads(caught.value.body())["error"]["code"] == "model_not_found"


def test_a_model_is_listed_with_its_own_aliases() -> None:
    aliases = {"chat": "qwen3-8b", "big": "llama3-8b", "fast": "qwen3-8b"}
    assert aliases_of("qwen3-8b", aliases) == ["chat", "fast"]
    assert aliases_of("other", aliases) == []
