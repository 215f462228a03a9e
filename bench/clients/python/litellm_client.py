"""LiteLLM, as its documentation uses it with a server that speaks OpenAI's protocol."""

import sys
from contextlib import aclosing, closing

import litellm
from talk import Answer, Question, serve, serve_async

MESSAGES = [{"role": "user", "content": "Hi"}]
PACKAGES = ("litellm", "openai")


def completion(question: Question, answer: Answer) -> None:
    """Its stream has no `close`: who wants to leave can only break."""
    for chunk in litellm.completion(**arguments(question)):
        hear(chunk, answer)
        if answer.enough:
            break


def closed_completion(question: Question, answer: Answer) -> None:
    """With the `close` of what the stream wraps."""
    stream = litellm.completion(**arguments(question))
    with closing(stream.completion_stream):
        for chunk in stream:
            hear(chunk, answer)
            if answer.enough:
                break


async def acompletion(question: Question, answer: Answer) -> None:
    async with aclosing(await litellm.acompletion(**arguments(question))) as stream:
        async for chunk in stream:
            hear(chunk, answer)
            if answer.enough:
                break


def arguments(question: Question) -> dict[str, object]:
    return {
        "model": f"openai/{question.model}",
        "api_base": question.base_url,
        "api_key": "any",
        "messages": MESSAGES,
        "stream": True,
        "extra_headers": question.headers,
    }


def hear(chunk: litellm.ModelResponseStream, answer: Answer) -> None:
    delta = chunk.choices[0].delta
    told = getattr(chunk, "model_switching", None)
    answer.hears(delta.content, getattr(delta, "reasoning_content", None), told)


if __name__ == "__main__":
    match sys.argv[1]:
        case "completion":
            serve(completion, *PACKAGES)
        case "closed":
            serve(closed_completion, *PACKAGES)
        case "acompletion":
            serve_async(acompletion, *PACKAGES)
