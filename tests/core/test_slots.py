from __future__ import annotations

import json

import pytest

from shared.slots import shown

# As llama.cpp's server says it with LLAMA_SERVER_SLOTS_DEBUG, but for most of `params`.
BUSY = {
    "id": 3,
    "n_ctx": 4096,
    "speculative": False,
    "is_processing": True,
    "id_task": 7,
    "n_prompt_tokens": 900,
    "n_prompt_tokens_processed": 512,
    "n_prompt_tokens_cache": 10,
    "params": {"stop": ["SECRET"], "grammar": "SECRET", "generation_prompt": "SECRET"},
    "next_token": [{"has_next_token": True, "has_new_line": False, "n_remain": -1, "n_decoded": 5}],
    "prompt": "SECRET",
    "generated": "SECRET",
}
UNUSED = {"id": 0, "n_ctx": 4096, "speculative": False, "is_processing": False}


def said(*slots: object) -> bytes:
    return json.dumps(slots).encode()


def test_counts_and_flags_pass_and_nothing_of_what_is_said() -> None:
    (slot,) = shown(said(BUSY))
    assert slot == {k: v for k, v in BUSY.items() if k not in ("params", "prompt", "generated")}
    assert "SECRET" not in json.dumps(slot)


def test_a_slot_that_was_never_used_has_no_more_than_its_engine_says() -> None:
    assert shown(said(UNUSED)) == [UNUSED]


def test_older_builds_say_the_next_token_without_an_array() -> None:
    slot = {**UNUSED, "next_token": {"n_decoded": 5, "stopping_word": "SECRET"}}
    assert shown(said(slot))[0]["next_token"] == {"n_decoded": 5}


@pytest.mark.parametrize("field", [*UNUSED, "id_task", "n_prompt_tokens", "next_token"])
def test_no_text_passes_under_whatever_name(field: str) -> None:
    for text in ("SECRET", "123", "true", ["SECRET"]):
        with pytest.raises(ValueError, match=r"(?i)valid|input"):
            shown(said({**UNUSED, field: text}))


@pytest.mark.parametrize("answer", [b"", b"{}", b"[1]", b"[{}]", b'{"error": {}}', b"\xff", b"[["])
def test_what_is_no_answer_to_slots_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"(?i)valid|json|input"):
        shown(answer)
