// How a client program talks with the command: one JSON line per question in, one per answer out.
//
// SIGINT is the Ctrl-C of somebody who leaves: it aborts what is asked at the moment.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

export class Answer {
  text = "";
  reasoning = "";
  told = 0; // chunks whose `model_switching` could be read
  left = false;
  error = null;
  #piecesLeft;

  constructor(question) {
    this.#piecesLeft = question.leave_after;
  }

  hears(text, reasoning = null, told = null) {
    this.text += text ?? "";
    this.reasoning += reasoning ?? "";
    if (told != null) this.told += 1;
    if (text && this.#piecesLeft !== null) this.#piecesLeft -= 1;
  }

  get enough() {
    this.left ||= this.#piecesLeft === 0;
    return this.left;
  }

  fails(error) {
    const { name, message, code } = error;
    const type = error.constructor?.name ?? name ?? typeof error;
    this.error = { type, message: message ?? JSON.stringify(error), code: code ?? null };
  }
}

// `ask(question, answer, abort)`; `abort` is the AbortController of this question.
export async function serve(ask, ...packages) {
  let abort = null;
  process.on("SIGINT", () => abort?.abort());
  introduce(packages);
  for await (const line of createInterface({ input: process.stdin })) {
    const question = JSON.parse(line);
    const answer = new Answer(question);
    abort = new AbortController();
    try {
      await ask(question, answer, abort);
    } catch (error) {
      if (abort.signal.aborted) answer.left = true;
      else answer.fails(error);
    }
    answer.left ||= abort.signal.aborted;
    abort = null;
    say(answer);
  }
}

export const headers = (question) => ({ "X-Swapyard-Progress": question.dialect });

function introduce(packages) {
  const versions = Object.fromEntries(packages.map((name) => [name, version(name)]));
  say({ runtime: `Node ${process.versions.node}`, versions });
}

function version(name) {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf-8")).version;
}

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
