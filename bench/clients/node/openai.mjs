// OpenAI's package for JavaScript: a loop without a guard around `choices[0]`, and its helper.

import OpenAI from "openai";
import { headers, serve } from "./talk.mjs";

const messages = [{ role: "user", content: "Hi" }];

async function loop(question, answer, abort) {
  const stream = await client(question).chat.completions.create(
    { model: question.model, messages, stream: true },
    { signal: abort.signal },
  );
  for await (const chunk of stream) {
    const delta = chunk.choices[0].delta;
    answer.hears(delta.content, delta.reasoning_content, chunk.model_switching);
    if (answer.enough) break;
  }
}

// The text is that of `content`, the helper's own event.
async function helper(question, answer, abort) {
  const stream = client(question).chat.completions.stream(
    { model: question.model, messages },
    { signal: abort.signal },
  );
  stream.on("content", (text) => {
    answer.hears(text);
    if (answer.enough) stream.abort();
  });
  stream.on("chunk", (chunk) =>
    answer.hears(null, chunk.choices[0]?.delta.reasoning_content, chunk.model_switching),
  );
  try {
    const final = await stream.finalContent();
    if (final !== answer.text) throw new Error(`the final content is ${JSON.stringify(final)}`);
  } catch (error) {
    if (!answer.left) throw error;
  }
}

function client(question) {
  return new OpenAI({
    baseURL: question.base_url,
    apiKey: "any",
    defaultHeaders: headers(question),
  });
}

await serve({ loop, helper }[process.argv[2]], "openai");
