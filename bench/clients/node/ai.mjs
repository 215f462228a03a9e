// Vercel's AI SDK: `streamText` with each of its two providers for servers such as ours.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";
import { headers, serve } from "./talk.mjs";

const providers = {
  compatible: (question) =>
    createOpenAICompatible({
      name: "swapyard",
      baseURL: question.base_url,
      apiKey: "any",
      headers: headers(question),
    })(question.model),
  openai: (question) =>
    createOpenAI({
      baseURL: question.base_url,
      apiKey: "any",
      headers: headers(question),
    }).chat(question.model),
};
const packages = { compatible: "@ai-sdk/openai-compatible", openai: "@ai-sdk/openai" };

// Errors are parts of `fullStream`, which goes on to its end; `textStream` would leave them out.
async function ask(question, answer, abort) {
  const result = streamText({
    model: providers[provider](question),
    prompt: "Hi",
    abortSignal: abort.signal,
    onError: () => {}, // it prints them otherwise
  });
  let failure = null;
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") answer.hears(part.text);
    if (part.type === "reasoning-delta") answer.hears(null, part.text);
    if (part.type === "error") failure ??= part.error;
    if (answer.enough) abort.abort();
  }
  if (failure !== null) throw failure;
}

const provider = process.argv[2];
await serve(ask, "ai", packages[provider]);
