// A receiver in Node.js: verifies each webhook with the public library, handles each event once, prints it.
//
//   npm install standardwebhooks
//   WEBHOOK_SECRET=whsec_… node receiver.mjs

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

// While a secret is rotated, both the old and the new one sign: change it here at any time until the overlap ends.
const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const MAX_BODY = 1_000_000;

// Webhooks come at least once. A real service remembers ids where its data is, and in the same transaction.
const handled = new Set();

/** The bytes of a request, or nothing if there are too many. */
async function bodyOf(request) {
  const parts = [];
  let length = 0;
  for await (const part of request) {
    length += part.length;
    if (length > MAX_BODY) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** Answers 2xx once the event is safe. Anything else, and the sender tries again. */
async function receive(request) {
  if (request.method !== "POST") return 405;
  // The signature is of these bytes: parse them only afterwards, and never write them anew before.
  const body = await bodyOf(request);
  if (body === undefined) return 413;
  let event;
  try {
    event = webhook.verify(body, request.headers);
  } catch {
    return 401;
  }
  const id = request.headers["webhook-id"];
  if (!handled.has(id)) {
    handled.add(id);
    console.log(id, event.type, JSON.stringify(event.data));
  }
  return 204;
}

const server = createServer(async (request, response) => {
  const status = await receive(request).catch(() => 500);
  response.writeHead(status).end();
});
server.listen(Number(process.env.PORT ?? 4000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
