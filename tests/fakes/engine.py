"""An engine program for tests: a real process and a real socket that speaks enough OpenAI,
with a switch for each way in which engines misbehave.

Rule: standard library only and no slow imports, because tests start hundreds of these. What
happened is told by the journal, never guessed from the outside.
"""

import argparse
import asyncio
import errno
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import hostile  # beside this file, which is run as a program
import misbehaviour

Json = dict[str, Any]
LOADING = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
CHATS = {"/v1/chat/completions": "chat.completion", "/v1/completions": "text_completion"}
EMBEDDINGS = "/v1/embeddings"
STOP_LINE = b"cmd_router_to_child:exit"


class Request(NamedTuple):
    method: str
    path: str
    keep_alive: bool
    accepts: str  # which codings
    body: bytes


def read_switches(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--port", type=int, required=True)
    add("--load-seconds", type=float, default=0.0, help="the port listens meanwhile")
    add("--crash-at", default="", metavar="load|ready|token:N", help="ready: the first 200 is out")
    add("--deaf", action="store_true", help="ignores SIGTERM")
    add("--stall", action="store_true", help="never ready: takes connections, says nothing")
    add("--no-listen", action="store_true", help="never binds its port, yet stays alive")
    add("--tokens", type=int, default=8, help="length of an answer; max_tokens may cut it")
    add("--tokens-per-second", type=float, default=0.0, help="0: as fast as possible")
    add("--first-token-seconds", type=float, default=0.0, help="time before the first byte")
    add("--fail-with", default="", metavar="TEXT", help="says TEXT on stderr and exits 1 at once")
    add("--answer-status", type=int, default=0, help="answers each POST under /v1 with an error")
    add("--slots", default="", metavar="JSON|hang", help="what GET /slots says; else 404")
    add("--journal", default="", metavar="FILE", help="one JSON line per event is appended")
    add("--reports", action="store_true", help="tells its load and ends as llama-server does")
    add("--loses-line", action="store_true", help="reads the line that ends it, and stays")
    add("--vram", default="", metavar="[GPU:]MIB", help="takes it evenly of the GPUs it may see")
    hostile.add_switches(parser)
    misbehaviour.add_switches(parser)
    switches, others = parser.parse_known_args(argv)
    if others and not switches.reports:  # as llama-server it is given more than it needs to know
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return switches


class Journal:
    """Lines `{"event", "at", "pid", ...}`; `at` is time.monotonic(), one clock for the machine."""

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(path, flags, 0o600) if path else None

    def write(self, event: str, **facts: object) -> None:
        line = {"event": event, "at": time.monotonic(), "pid": os.getpid(), **facts}
        if self._file is not None:
            os.write(self._file, json.dumps(line).encode() + b"\n")

    def exit(self, code: int, last_words: str = "") -> NoReturn:
        """Ends the process on the spot, as a crash does: nothing is flushed or said goodbye to."""
        if last_words:
            os.write(sys.stderr.fileno(), last_words.encode() + b"\n")
        self.write("exit", code=code)
        os._exit(code)


class Vram:
    """What it takes of the fake GPUs, told to the fake NVML (fakeprocesses.h)."""

    def __init__(self, switch: str) -> None:
        gpu, _, mib = switch.rpartition(":")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")  # CUDA's default: all; here, one
        self._gpus = [gpu] if gpu else [seen for seen in visible.split(",") if seen]
        self._mib = float(mib or 0)

    def take(self, share: float) -> None:
        if not self._mib or not self._gpus:
            return
        each = int(self._mib * share / len(self._gpus))
        file = os.path.join(self._folder(), str(os.getpid()))
        with open(f"{file}.draft", "w") as draft:
            draft.writelines(f"{gpu} {each}\n" for gpu in self._gpus)
        os.rename(draft.name, file)

    def _folder(self) -> str:
        with open(os.environ["FAKE_NVML"]) as driver:
            return next(line.split()[1] for line in driver if line.startswith("processes "))


class Engine:
    def __init__(self, switches: argparse.Namespace, journal: Journal) -> None:
        self._switches = switches
        self._journal = journal
        self._vram = Vram(switches.vram)
        self._ready = False
        self.awaits_line = False  # ready, and no signal ends it before the line
        self._numbers = itertools.count(1)

    async def run(self) -> NoReturn:
        if not self._switches.no_listen:
            await self._listen()
        if not self._switches.stall:
            await self._load()
        if self._switches.reports:
            await self._hear()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def _listen(self) -> None:
        try:
            await asyncio.start_server(self._serve, "127.0.0.1", self._switches.port)
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
            self._journal.exit(1, "bind: Address already in use")

    async def _load(self) -> None:
        say("loading model")
        self._vram.take(0.5)
        for share in (0.0, 0.25, 0.5, 0.75):
            self._report("loading", {"value": share})
            if share == 0.5 and self._switches.crash_at == "load":
                self._journal.exit(1, "fake engine: crashed half-way through the load")
            await asyncio.sleep(self._switches.load_seconds / 4)
        self._report("loading", {"value": 1.0})
        self._vram.take(1.0)
        self._ready, self.awaits_line = True, self._switches.reports
        self._journal.write("ready")
        say("ready")
        self._report("ready", {"n_ctx": 4096})

    def _report(self, state: str, payload: Json) -> None:
        if self._switches.reports:
            report = json.dumps({"state": state, "payload": payload})
            os.write(sys.stdout.fileno(), f"cmd_child_to_router:state:{report}\n".encode())

    async def _hear(self) -> None:
        """What llama-server does once it is ready: it reads stdin up to the first such line."""
        stdin = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(stdin)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while STOP_LINE not in (line := await stdin.readline()):
            if not line:
                self._journal.exit(1, "fake engine: its stdin has come to an end")
        self._journal.write("line")
        if not self._switches.loses_line:
            self._journal.exit(0)
        self.awaits_line = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. While an answer is on its way the next byte is awaited too, so that
        a client that hangs up is noticed at once, whatever state its request is in."""
        writer.transport.set_write_buffer_limits(high=0)  # drain() = the kernel has it all
        try:
            first = await first_byte(reader)
            while first:
                request = await read_request(first, reader)
                answer = asyncio.create_task(self._answer(request, writer))
                following = asyncio.create_task(first_byte(reader))
                await asyncio.wait({answer, following}, return_when=asyncio.FIRST_COMPLETED)
                if following.done() and not following.result():
                    answer.cancel()
                stays = await finished(answer) and request.keep_alive
                first = await following if stays else b""
                following.cancel()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it hung up in the middle of its request: nobody is there to be answered
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if self._switches.stall:
            await asyncio.Event().wait()
        if not self._ready:
            await send_json(writer, 503, {"error": LOADING})
        elif request.method == "GET":
            await self._answer_get(request.path, writer)
        else:
            await self._answer_post(request, writer)

    async def _answer_get(self, path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/health":
            await send_json(writer, 200, {"status": "ok"})
            if self._switches.stops_itself:
                hostile.freeze()
            if self._switches.crash_at == "ready":
                self._journal.exit(1, "fake engine: crashed right after it was ready")
        elif path == "/v1/models":
            await send_json(
                writer, 200, {"object": "list", "data": [{"id": "fake", "object": "model"}]}
            )
        elif path == "/slots" and self._switches.slots == "hang":
            await asyncio.Event().wait()
        elif path == "/slots" and self._switches.slots:
            await send_json(writer, 200, json.loads(self._switches.slots))
        else:
            await send_json(writer, 404, error("File Not Found", 404))

    async def _answer_post(self, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            body = json.loads(request.body)
        except ValueError:
            await send_json(writer, 400, error("the body is not JSON", 400))
            return
        facts = facts_of(request.path, body)
        status = self._switches.answer_status
        self._journal.write("request", **facts, accepts=request.accepts)
        if status and request.path.startswith("/v1/"):
            await send_json(writer, status, error("told to fail", status))
        elif request.path == EMBEDDINGS or request.path in CHATS:
            await self._complete(request.path, body, writer)
        else:
            await send_json(writer, 404, error("File Not Found", 404))

    async def _complete(self, path: str, body: Json, writer: asyncio.StreamWriter) -> None:
        manner = misbehaviour.manner_of(self._switches, body)
        facts = facts_of(path, body)
        facts |= {"tokens": 0} if manner is None else {"bytes": 0}
        try:
            await asyncio.sleep(self._switches.first_token_seconds)
            if manner is None:
                async for facts["tokens"] in self._generate(path, body, writer):
                    pass
            else:
                async for facts["bytes"] in misbehaviour.play(manner, writer):
                    pass
        except (asyncio.CancelledError, ConnectionError):
            self._journal.write("gone", **facts)
            raise
        self._journal.write("answered", **facts)

    async def _generate(
        self, path: str, body: Json, writer: asyncio.StreamWriter
    ) -> AsyncIterator[int]:
        if path == EMBEDDINGS:
            await send_json(writer, 200, embeddings(body))
            return
        stream, made = bool(body.get("stream")), 0
        voice = Voice(CHATS[path], body.get("model"), next(self._numbers))
        if stream:
            await start_stream(writer, voice)
        async for made in self._ticks(body.get("max_tokens")):
            if stream:
                await send_event(writer, voice.piece(made))
            if stream and self._switches.crash_at == f"token:{made}":
                self._journal.exit(1, f"fake engine: crashed after {made} tokens")
            yield made
        if stream:
            await end_stream(writer, voice, made)
        else:
            await send_json(writer, 200, voice.whole(made))

    async def _ticks(self, most: object) -> AsyncIterator[int]:
        """Paced by the clock and not by sleeps in a row, which would add up their lateness."""
        began, speed = time.monotonic(), self._switches.tokens_per_second
        tokens = self._switches.tokens
        for made in range(min(most, tokens) if isinstance(most, int) and most > 0 else tokens):
            due = began + made / speed if speed else 0.0
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield made + 1


class Voice:
    """The shapes of one answer, in the order and with the fields of llama.cpp's server."""

    def __init__(self, kind: str, model: object, number: int) -> None:
        self._chat = kind == "chat.completion"
        self._head = {"id": f"fake-{number}", "created": int(time.time()), "model": model}
        self._kind = kind

    def opening(self) -> list[Json]:
        said = {"delta": {"role": "assistant", "content": None}}
        return [self._chunk(said)] if self._chat else []

    def piece(self, number: int) -> Json:
        text = "tok0" if number == 1 else f" tok{number - 1}"
        return self._chunk({"delta": {"content": text}} if self._chat else {"text": text})

    def finish(self, tokens: int) -> Json:
        last = self._chunk({"delta": {}} if self._chat else {"text": ""}, "stop")
        return {**last, **counts(tokens)}

    def whole(self, tokens: int) -> Json:
        text = " ".join(f"tok{number}" for number in range(tokens))
        said = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        return {**self._frame(self._kind, said, "stop"), **counts(tokens)}

    def _chunk(self, said: Json, finish_reason: str | None = None) -> Json:
        return self._frame(f"{self._kind}.chunk" if self._chat else self._kind, said, finish_reason)

    def _frame(self, kind: str, said: Json, finish_reason: str | None) -> Json:
        choice = {"index": 0, **said, "finish_reason": finish_reason}
        return {**self._head, "object": kind, "choices": [choice]}


def facts_of(path: str, body: Json) -> Json:
    return {"path": path, "model": body.get("model"), "stream": bool(body.get("stream"))}


def counts(tokens: int) -> Json:
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    return {"usage": usage, "timings": {"prompt_n": 1, "predicted_n": tokens}}


def embeddings(body: Json) -> Json:
    given = body.get("input", "")
    count = len(given) if isinstance(given, list) else 1
    vectors = [{"object": "embedding", "index": i, "embedding": [0.5, i]} for i in range(count)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "model": body.get("model"), "data": vectors, "usage": usage}


def error(message: str, status: int) -> Json:
    return {"error": {"code": status, "message": message, "type": "fake_error"}}


async def first_byte(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1)
    except ConnectionError:
        return b""


async def finished(answer: asyncio.Task[None]) -> bool:
    try:
        await answer
    except (asyncio.CancelledError, ConnectionError):
        return False
    return True


async def read_request(first: bytes, reader: asyncio.StreamReader) -> Request:
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head.rstrip().split("\r\n")
    method, target, _ = start.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join([part async for part in read_chunks(reader)])
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    keep_alive = headers.get("connection", "").lower() != "close"
    accepts = headers.get("accept-encoding", "")
    return Request(method, target.partition("?")[0], keep_alive, accepts, body)


async def read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def send_json(writer: asyncio.StreamWriter, status: int, value: Json) -> None:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} Fake\r\nContent-Type: application/json\r\n"
    await send(writer, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


async def start_stream(writer: asyncio.StreamWriter, voice: Voice) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked"
    await send(writer, head + b"\r\n\r\n")
    for event in voice.opening():
        await send_event(writer, event)


async def end_stream(writer: asyncio.StreamWriter, voice: Voice, tokens: int) -> None:
    await send_event(writer, voice.finish(tokens))
    await send_event(writer, "[DONE]")
    await send(writer, b"0\r\n\r\n")


async def send_event(writer: asyncio.StreamWriter, event: Json | str) -> None:
    """One event is one HTTP chunk and one write, as with real engines."""
    text = event if isinstance(event, str) else json.dumps(event)
    data = f"data: {text}\n\n".encode()
    await send(writer, b"%x\r\n%b\r\n" % (len(data), data))


def say(line: str) -> None:
    os.write(sys.stderr.fileno(), f"fake engine: {line}\n".encode())


def main() -> NoReturn:
    switches = read_switches(sys.argv[1:])
    journal = Journal(switches.journal)
    engine = Engine(switches, journal)

    def on_sigterm(_signal: int, _frame: FrameType | None) -> None:
        journal.write("sigterm")
        if switches.crash_in_stop:
            hostile.crash()
        if not switches.deaf and not engine.awaits_line:
            journal.exit(0)

    signal.signal(signal.SIGTERM, on_sigterm)
    journal.write("started", port=switches.port)
    if switches.fail_with:
        journal.exit(1, switches.fail_with)
    hostile.beget(switches, journal.write, lambda: Vram(switches.children_vram).take(1.0))
    asyncio.run(engine.run())
    raise AssertionError("the engine runs until it is ended")


if __name__ == "__main__":
    main()
