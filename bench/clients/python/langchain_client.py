"""LangChain's ChatOpenAI, as its documentation uses it."""

import sys
from contextlib import aclosing, closing

from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI
from talk import Answer, Question, serve, serve_async

PACKAGES = ("langchain-openai", "langchain-core", "openai")


def model(question: Question) -> ChatOpenAI:
    return ChatOpenAI(
        model=question.model,
        base_url=question.base_url,
        api_key="any",
        default_headers=question.headers,
    )


def stream(question: Question, answer: Answer) -> None:
    with closing(model(question).stream("Hi")) as chunks:
        for chunk in chunks:
            hear(chunk, answer)
            if answer.enough:
                break


async def astream(question: Question, answer: Answer) -> None:
    async with aclosing(model(question).astream("Hi")) as chunks:
        async for chunk in chunks:
            hear(chunk, answer)
            if answer.enough:
                break


def hear(chunk: AIMessageChunk, answer: Answer) -> None:
    kept = {**chunk.additional_kwargs, **chunk.response_metadata}
    answer.hears(str(chunk.text), kept.get("reasoning_content"), kept.get("model_switching"))


if __name__ == "__main__":
    match sys.argv[1]:
        case "stream":
            serve(stream, *PACKAGES)
        case "astream":
            serve_async(astream, *PACKAGES)
