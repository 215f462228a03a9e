"""Makes the demo's models: real GGUF files whose weights are set by hand, so nothing is downloaded.

Rule: the same bytes every time. A model says its own sentence, whatever it is asked, because its
layers add nothing to a token's embedding and its output weights lead from each word to the next;
everything in between is really read, kept and computed, as in a model that was trained.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).resolve().parent / "models"
CONTEXT_LENGTH = 131072  # agents such as Hermes refuse a model with less than 64,000
HEAD_SIZE = 32
SEED = 0
CERTAINTY = 40.0  # logit of the next word where all others have 0: sure at any usual temperature
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{{ m['content'] or '' }}{{ '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
BOUNDS = ["<|system|>", "<|user|>", "<|tool|>", "<|assistant|>", "<|end|>"]
WORD_SCORE = -1000.0  # a prompt's text is never merged into a word in preference to its bytes

Half = npt.NDArray[np.float16]
Weights = npt.NDArray[np.float16] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    sentence: str  # no word twice: a token's text is unique
    layers: int
    experts: int
    width: int
    feed_forward: int


# Of many experts one works for each token: files of real size, yet a processor reads an agent's
# long prompt in seconds. Few and narrow layers keep the cache of a full context small: 64 MiB each.
MODELS = {
    "tiny": Model(
        "My name is tiny and I was made for tests, which need nothing more than these words.",
        layers=1,
        experts=4,
        width=64,
        feed_forward=128,
    ),
    "demo-small": Model(
        "Hello from demo-small: I load in a blink, know just this one sentence, "
        "and always say it gladly.",
        layers=1,
        experts=16,
        width=128,
        feed_forward=416,
    ),
    "demo-medium": Model(
        "This is demo-medium speaking: with some hundred megabytes of weights, "
        "my whole wisdom still fits into these words.",
        layers=2,
        experts=64,
        width=128,
        feed_forward=1536,
    ),
    "demo-big": Model(
        "You woke demo-big: four hundred megabytes were read from disk "
        "so that this one answer could reach you.",
        layers=4,
        experts=64,
        width=128,
        feed_forward=2048,
    ),
}
DEMO = ["demo-small", "demo-medium", "demo-big"]


@dataclass(frozen=True)
class Vocabulary:
    texts: list[str]
    scores: list[float]
    kinds: list[int]

    def add(self, text: str, kind: gguf.TokenType, score: float = 0.0) -> int:
        """The number of the new token."""
        self.texts.append(text)
        self.scores.append(score)
        self.kinds.append(int(kind))
        return len(self.texts) - 1


@dataclass(frozen=True)
class Tokens:
    vocabulary: Vocabulary
    unknown: int
    begin: int
    end: int
    words: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", type=known, default=DEMO, metavar="NAME")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        path = arguments.folder / f"{name}.gguf"
        if not path.exists():
            make(name, path)


def known(name: str) -> str:
    if name not in MODELS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(MODELS)}")
    return name


def make(name: str, path: Path) -> None:
    """Written aside and renamed when complete: who sees the file may load it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".making-", dir=path.parent) as aside:
        unfinished = Path(aside) / path.name
        write(unfinished, name, MODELS[name])
        unfinished.rename(path)
    size = path.stat().st_size / 1e6
    print(f"made {path} ({size:.1f} MB in {time.monotonic() - began:.1f} s)", flush=True)


def write(path: Path, name: str, model: Model) -> None:
    tokens = tokens_of(model.sentence)
    writer = gguf.GGUFWriter(path, "llama")
    describe_shape(writer, name, model)
    describe_tokens(writer, tokens)
    for tensor, weights in tensors(model, tokens):
        writer.add_tensor(tensor, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokens_of(sentence: str) -> Tokens:
    """Bytes spell any prompt; beside them there are only bounds of messages and our words."""
    kind, vocabulary = gguf.TokenType, Vocabulary([], [], [])
    unknown = vocabulary.add("<unk>", kind.UNKNOWN)
    begin = vocabulary.add("<s>", kind.CONTROL)
    end = vocabulary.add("</s>", kind.CONTROL)
    for byte in range(256):
        vocabulary.add(f"<0x{byte:02X}>", kind.BYTE)
    for bound in BOUNDS:
        vocabulary.add(bound, kind.CONTROL)
    spelled = sentence.replace(" ", " \N{LOWER ONE EIGHTH BLOCK}").split(" ")
    words = [vocabulary.add(word, kind.NORMAL, WORD_SCORE) for word in spelled]
    return Tokens(vocabulary, unknown, begin, end, words)


def describe_shape(writer: gguf.GGUFWriter, name: str, model: Model) -> None:
    writer.add_name(name)
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(model.width)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.feed_forward)
    writer.add_expert_count(model.experts)
    writer.add_expert_used_count(1)
    writer.add_head_count(model.width // HEAD_SIZE)
    writer.add_head_count_kv(model.width // HEAD_SIZE)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def describe_tokens(writer: gguf.GGUFWriter, tokens: Tokens) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_vocab_size(len(tokens.vocabulary.texts))
    writer.add_token_list(tokens.vocabulary.texts)
    writer.add_token_scores(tokens.vocabulary.scores)
    writer.add_token_types(tokens.vocabulary.kinds)
    writer.add_unk_token_id(tokens.unknown)
    writer.add_bos_token_id(tokens.begin)
    writer.add_eos_token_id(tokens.end)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)


def tensors(model: Model, tokens: Tokens) -> Iterator[tuple[str, Weights]]:
    embedding, output = chain(tokens, model.width)
    random = np.random.default_rng(SEED)
    yield "token_embd.weight", embedding
    yield "output_norm.weight", unscaled(model.width)
    yield "output.weight", output
    for layer in range(model.layers):
        for part, weights in block(model, random):
            yield f"blk.{layer}.{part}.weight", weights


def block(model: Model, random: np.random.Generator) -> Iterator[tuple[str, Weights]]:
    """What attention and experts have computed is multiplied by zeros at their ends."""
    experts, width, wide = model.experts, model.width, model.feed_forward
    yield "attn_norm", unscaled(width)
    for part in ("attn_q", "attn_k", "attn_v"):
        yield part, noise(random, width, width)
    yield "attn_output", np.zeros((width, width), np.float16)
    yield "ffn_norm", unscaled(width)
    yield "ffn_gate_inp", noise(random, experts, width).astype(np.float32)
    yield "ffn_gate_exps", noise(random, experts, wide, width)
    yield "ffn_up_exps", noise(random, experts, wide, width)
    yield "ffn_down_exps", np.zeros((experts, width, wide), np.float16)


def chain(tokens: Tokens, width: int) -> tuple[Half, Half]:
    """Each word has a dimension of its own, all other tokens share the first; the output weights
    send each dimension to the word that follows, and whatever is no word to the first."""
    count = len(tokens.vocabulary.texts)
    embedding = np.zeros((count, width), np.float16)
    output = np.zeros((count, width), np.float16)
    places = {word: place for place, word in enumerate(tokens.words, start=1)}
    for token in range(count):
        embedding[token, places.get(token, 0)] = 1.0
    for place, word in enumerate([*tokens.words, tokens.end]):
        output[word, place] = CERTAINTY / np.sqrt(width)  # the norm makes that 1.0 sqrt(width)
    return embedding, output


def unscaled(width: int) -> Weights:
    return np.ones(width, np.float32)


def noise(random: np.random.Generator, *shape: int) -> Half:
    scaled = random.standard_normal(shape, np.float32) * 0.05
    return scaled.astype(np.float16)


if __name__ == "__main__":
    main()
