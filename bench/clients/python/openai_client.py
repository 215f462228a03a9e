"""OpenAI's Python package, as its README and most programs use it: no guard around `choices[0]`."""

import sys

import openai
from talk import Answer, Question, serve, serve_async

MESSAGES = [{"role": "user", "content": "Hi"}]


def sync_loop(question: Question, answer: Answer) -> None:
    client = openai.OpenAI(
        base_url=question.base_url, api_key="any", default_headers=question.headers
    )
    with client.chat.completions.create(
        model=question.model, messages=MESSAGES, stream=True
    ) as stream:
        for chunk in stream:
            hear(chunk, answer)
            if answer.enough:
                break


async def async_loop(question: Question, answer: Answer) -> None:
    client = openai.AsyncOpenAI(
        base_url=question.base_url, api_key="any", default_headers=question.headers
    )
    async with await client.chat.completions.create(
        model=question.model, messages=MESSAGES, stream=True
    ) as stream:
        async for chunk in stream:
            hear(chunk, answer)
            if answer.enough:
                break


def helper(question: Question, answer: Answer) -> None:
    """The text is that of `content.delta`, the helper's own event."""
    client = openai.OpenAI(
        base_url=question.base_url, api_key="any", default_headers=question.headers
    )
    with client.chat.completions.stream(model=question.model, messages=MESSAGES) as stream:
        for event in stream:
            if event.type == "content.delta":
                answer.hears(event.delta)
            elif event.type == "chunk":
                told = getattr(event.chunk, "model_switching", None)
                answer.hears(None, reasoning_in(event.chunk), told)
            if answer.enough:
                return
        final = stream.get_final_completion().choices[0].message.content
        assert final == answer.text, f"the final completion says {final!r}"


def hear(chunk: openai.types.chat.ChatCompletionChunk, answer: Answer) -> None:
    told = getattr(chunk, "model_switching", None)
    answer.hears(chunk.choices[0].delta.content, reasoning_in(chunk), told)


def reasoning_in(chunk: openai.types.chat.ChatCompletionChunk) -> str | None:
    return getattr(chunk.choices[0].delta, "reasoning_content", None) if chunk.choices else None


if __name__ == "__main__":
    match sys.argv[1]:
        case "sync":
            serve(sync_loop, "openai")
        case "async":
            serve_async(async_loop, "openai")
        case "helper":
            serve(helper, "openai")
