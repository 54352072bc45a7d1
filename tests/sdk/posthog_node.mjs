// Sends persons and events through the unmodified `posthog-node` SDK and a proxy that sometimes answers 503, and prints
// the expected data of the service as one line of JSON: each person with all distinct ids and properties, and each
// event with a distinct id of its person.
//
//     node posthog_node.mjs <base URL> <project token>
//
// The SDK comes from the folder COHORTS_TEST_NODE_MODULES, or from Node's search path. It sends to /batch/, and with
// POSTHOG_CAPTURE_MODE=v1 to /i/v1/analytics/events. Exit status 77 means that it is not installed.

import http from "node:http";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";

const SKIPPED = 77;
const DAY = 24 * 60 * 60 * 1000;

function load(name) {
  const modules = process.env.COHORTS_TEST_NODE_MODULES;
  const from = modules ? join(dirname(resolve(modules)), "anything.js") : import.meta.url;
  try {
    return createRequire(from)(name);
  } catch (cause) {
    console.error(`${name} is not installed: ${cause.message}`);
    process.exit(SKIPPED);
  }
}

// A proxy between the SDK and the service. `fates` has the results of the next requests; later ones pass.
async function startProxy(base) {
  const proxy = { fates: ["refused", "refused", "passed", "response lost"], refused: 0, errors: [] };
  const server = http.createServer(async (request, reply) => {
    const fate = proxy.fates.shift() ?? "passed";
    let response;
    if (fate !== "refused") {
      response = await forward(base, request);
      if (response.status >= 300) {
        proxy.errors.push(`${request.method} ${request.url} got the status ${response.status}: ${response.body}`);
      }
    }
    if (fate === "passed") {
      reply.writeHead(response.status, response.headers).end(response.body);
    } else {
      proxy.refused += 1;
      reply.writeHead(503, { "Retry-After": "1" }).end();
    }
    request.resume();
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  proxy.url = `http://127.0.0.1:${server.address().port}`;
  proxy.close = () => {
    server.close();
    server.closeAllConnections();
  };
  return proxy;
}

// The response of the service to a request that the proxy received.
function forward(base, request) {
  return new Promise((settle) => {
    const failed = (error) => settle({ status: 502, headers: {}, body: String(error) });
    const { method, headers } = request;
    const onward = http.request(base + request.url, { method, headers }, (reply) => {
      const parts = [];
      reply.on("data", (part) => parts.push(part));
      reply.on("error", failed);
      reply.on("end", () => {
        settle({ status: reply.statusCode, headers: reply.headers, body: Buffer.concat(parts) });
      });
    });
    onward.on("error", failed);
    request.pipe(onward);
  });
}

async function send(client, proxy) {
  const capture = (event, distinctId, daysAgo, properties) =>
    client.capture({ event, distinctId, properties, timestamp: new Date(Date.now() - daysAgo * DAY) });

  capture("signed up", "ann", 40, {
    $set: { plan: "pro", name: "Ann Öberg 🦊", seats: 5, share: 0.25, tags: ["a", "b"], news: true },
  });
  capture("order placed", "ann", 3, { amount: 49.5, title: "cut through 🦊".slice(0, -1) });
  capture("order placed", "ann", 1, { amount: 12 });
  capture("visited", "anon-1", 20, { $set: { plan: "free", campaign: "spring" } });
  capture("visited", "anon-1", 2);

  client.identify({
    distinctId: "bob",
    properties: { $set: { plan: "pro", seats: 2, city: "Malmö" }, $set_once: { source: "letter" } },
  });
  capture("signed up", "bob-phone", 10, { $set: { plan: "free", device: "phone" } });
  capture("order placed", "bob-phone", 3, { amount: 7 });
  // The later value wins, and with `$set_once` the earlier one.
  client.identify({ distinctId: "bob", properties: { $set: { seats: 3 }, $set_once: { source: "poster" } } });

  capture("visited", "anon-2", 5, { $set: { plan: "free", referrer: "poster" } });
  capture("signed up", "dee", 30, { $set: { plan: "pro", trial: true } });
  client.setPersonProperties({ distinctId: "dee", properties: { seats: 1 }, propertiesOnce: { plan: "free" } });
  client.unsetPersonProperties({ distinctId: "dee", properties: ["trial"] });

  client.groupIdentify({ groupType: "company", groupKey: "acme", properties: { size: 7 }, distinctId: "ann" });
  // Without a distinct id the SDK generates one.
  client.groupIdentify({ groupType: "company", groupKey: "initech", properties: { size: 9 } });
  await client.flush();

  // A repeated request must not be applied twice.
  proxy.fates.push("response lost");
  // Two known persons are merged, as front ends do it. The properties of the survivor win.
  capture("$identify", "ann", 0, {
    $anon_distinct_id: "anon-1",
    $set: { seats: 6 },
    $set_once: { campaign: "autumn", medium: "web" },
  });
  client.alias({ distinctId: "bob", alias: "bob-phone" });
  // One of two distinct ids is known.
  client.identify({ distinctId: "cid", properties: { $anon_distinct_id: "anon-2", $set: { seats: 8 } } });
  // Neither is known.
  client.alias({ distinctId: "eve", alias: "eve-tablet" });
  await client.flush();

  // An identified person is not merged into another.
  client.alias({ distinctId: "dee", alias: "cid" });
  client.identify({ distinctId: "dee", properties: { $anon_distinct_id: "cid", $set: { seats: 10 } } });
  // Each distinct id still belongs to the merged person.
  capture("order placed", "anon-1", 0, { amount: 3 });
  capture("order placed", "bob-phone", 0, { amount: 4, $set: { seats: 4 } });
  capture("order placed", "cid", 0, { amount: 5 });
  capture("visited", "eve-tablet", 0, { $set_once: { plan: "free" } });
  for (let count = 0; count < 12; count += 1) {
    capture("searched", "ann", count, { count });
  }
  await client.flush();
}

const PERSONS = [
  { distinct_ids: ["$company_initech"], properties: {} },
  {
    distinct_ids: ["ann", "anon-1"],
    properties: {
      plan: "pro",
      name: "Ann Öberg 🦊",
      seats: 6,
      share: 0.25,
      tags: ["a", "b"],
      news: true,
      campaign: "spring",
      medium: "web",
    },
  },
  { distinct_ids: ["anon-2", "cid"], properties: { plan: "free", referrer: "poster", seats: 8 } },
  {
    distinct_ids: ["bob", "bob-phone"],
    properties: { plan: "pro", seats: 4, city: "Malmö", source: "letter", device: "phone" },
  },
  { distinct_ids: ["dee"], properties: { plan: "pro", seats: 10 } },
  { distinct_ids: ["eve", "eve-tablet"], properties: { plan: "free" } },
];

function expectedEvent(message) {
  const person = PERSONS.find((candidate) => candidate.distinct_ids.includes(message.distinct_id));
  const daysAgo = Math.round((Date.now() - new Date(message.timestamp)) / DAY);
  return { event: message.event, person: person.distinct_ids[0], days_ago: daysAgo };
}

async function main() {
  const [base, token] = process.argv.slice(2);
  if (!token) {
    throw new Error("usage: posthog_node.mjs <base URL> <project token>");
  }
  const { PostHog } = load("posthog-node");
  const proxy = await startProxy(base.replace(/\/+$/, ""));
  const client = new PostHog(token, {
    host: proxy.url,
    flushAt: 5,
    maxBatchSize: 5,
    fetchRetryCount: 4,
    fetchRetryDelay: 200,
  });
  const failures = [];
  const queued = [];
  const delivered = [];
  client.on("error", (error) => failures.push(String(error)));
  for (const kind of ["capture", "identify", "alias"]) {
    client.on(kind, (message) => queued.push(message));
  }
  client.on("flush", (messages) => delivered.push(...messages));
  try {
    await send(client, proxy);
    await client.shutdown();
  } catch (error) {
    failures.push(String(error));
  } finally {
    proxy.close();
  }
  failures.push(...proxy.errors);
  if (failures.length > 0) {
    throw new Error([...new Set(failures)].join("; "));
  }
  const uuids = (messages) => messages.map((message) => message.uuid).sort().join();
  if (uuids(delivered) !== uuids(queued)) {
    throw new Error(`${queued.length} items were queued, ${delivered.length} delivered`);
  }
  if (proxy.fates.length > 0) {
    throw new Error(`the proxy received too few requests: ${proxy.fates.join(", ")}`);
  }
  const events = queued.map(expectedEvent);
  const sdk = client.getLibraryVersion();
  console.log(JSON.stringify({ sdk, persons: PERSONS, events, refused_by_proxy: proxy.refused }));
}

main().catch((error) => {
  console.error(`the SDK could not deliver: ${error.message}`);
  process.exit(1);
});
