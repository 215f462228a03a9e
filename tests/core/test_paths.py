from __future__ import annotations

import pytest

from sidecar.paths import is_inference, is_look, split


def test_a_path_is_read_with_the_longest_id_that_fits() -> None:
    models = ["Qwen", "Qwen/Qwen3-8B", "tiny"]
    assert split("tiny/v1/chat/completions", models) == ("tiny", "v1/chat/completions")
    assert split("Qwen/Qwen3-8B/v1/embeddings", models) == ("Qwen/Qwen3-8B", "v1/embeddings")
    assert split("Qwen/v1/models", models) == ("Qwen", "v1/models")


@pytest.mark.parametrize("path", ["", "tiny", "tinier/v1/models", "v1/tiny/x", "../tiny/v1/x"])
def test_a_path_without_a_known_model_means_nothing(path: str) -> None:
    assert split(path, ["tiny"]) is None


@pytest.mark.parametrize("path", ["v1/chat/completions", "v1/models", "v1/audio/speech"])
def test_the_paths_of_inference_reach_an_engine(path: str) -> None:
    assert is_inference(path)


@pytest.mark.parametrize(
    "path", ["", "v1", "v1/", "slots", "metrics", "v1/../slots", "v1//x", "v1/./x", "/v1/x", "V1/x"]
)
def test_no_other_path_reaches_an_engine(path: str) -> None:
    assert not is_inference(path)


def test_only_a_get_of_its_slots_is_a_look_at_an_engine() -> None:
    assert is_look("GET", "slots")
    for method, path in (
        ("POST", "slots"),
        ("HEAD", "slots"),
        ("GET", "slots/0"),
        ("GET", "slots/"),
        ("GET", "/slots"),
        ("GET", "v1/slots"),
        ("GET", "metrics"),
        ("GET", "props"),
    ):
        assert not is_look(method, path)
