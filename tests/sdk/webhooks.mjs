// Verifies messages of webhooks with the reference library for Node (npm's standardwebhooks).
//
// The argument is a JSON list of objects: `secret`, `headers` and `body`, the text of the message. Prints a JSON list with
// the verified bodies; null for a message that the library refuses.
//
// The library comes from the folder COHORTS_TEST_NODE_MODULES, or from Node's search path. Exit status 77 means that it is
// not installed.

import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";

function load(name) {
  const modules = process.env.COHORTS_TEST_NODE_MODULES;
  const from = modules ? join(dirname(resolve(modules)), "anything.js") : import.meta.url;
  try {
    return createRequire(from)(name);
  } catch (cause) {
    console.error(`${name} is not installed: ${cause.message}`);
    process.exit(77);
  }
}

const { Webhook } = load("standardwebhooks");

function verified({ secret, headers, body }) {
  try {
    return new Webhook(secret).verify(body, headers);
  } catch {
    return null;
  }
}

console.log(JSON.stringify(JSON.parse(process.argv[2]).map(verified)));
