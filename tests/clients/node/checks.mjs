// Shows that the vault can be used from Node, and how.
//
//   node checks.mjs PROTO FOLDER                          against `vaultd dev --dir FOLDER`
//   node checks.mjs PROTO FOLDER --lost-answer ENDPOINT   over a network that loses the first answer
//
// PROTO holds `vault/v1/*.proto`, FOLDER holds `endpoint` and `certs/`. All numbers here are published for tests.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import grpc from "@grpc/grpc-js";

import { call, connect, load, passes, refusalOf } from "./client.mjs";

const VISA = "4111111111111111";
const AMEX = "378282246310005";
const SSN = "078-05-1120"; // printed in advertisements, never issued since
const RELEASE = { purpose: "settlement", recipient: "acquirer", reference: "case-1" };

/** Connects as a principal of the folder. */
function connectAs(name, services, folder, endpoint) {
  const file = (part) => join(folder, "certs", part);
  return connect(services, endpoint, {
    ca: file("ca.pem"),
    certificate: file(`${name}.pem`),
    key: file(`${name}.key`),
    // The endpoint is an address, and TLS knows servers by name.
    serverName: "localhost",
  });
}

const card = (pan) => ({ card: { pan: Buffer.from(pan), expiry: { month: 12, year: 2030 } } });
const ssn = (number) => ({ ssn: { number: Buffer.from(number) } });

/** An idempotency key: made once for each thing to be stored, kept until its token is. */
const newKey = () => randomUUID();

async function oneValueGoesInAndComesBack(checkout, billing) {
  const request = {
    value: card(VISA),
    purposes: ["settlement"],
    reference: "order-1",
    idempotencyKey: newKey(),
  };
  const stored = await call(checkout.values, "tokenize", request);
  assert.match(stored.token, /^tok_pan_[a-p]{40}$/);
  assert.equal(stored.masked.text, "************1111");
  assert.equal(stored.receipt.leafHash.length, 32);

  // The same request with the same key again, as after a lost answer: the same token.
  assert.equal((await call(checkout.values, "tokenize", request)).token, stored.token);

  const released = await call(billing.values, "detokenize", { token: stored.token, ...RELEASE });
  const { pan, expiry } = released.value.card;
  assert.equal(pan.toString(), VISA);
  assert.deepEqual(expiry, { month: 12, year: 2030 });
  assert.equal(released.recordVersion, 1);
  // Used: nothing needs the digits any more.
  pan.fill(0);
  return stored.token;
}

async function manyValuesGoInAndComeBack(checkout, billing) {
  const values = [card(VISA), card("4111111111111112"), ssn(SSN), card(AMEX)];
  const request = { items: values.map((value) => ({ value })), idempotencyKey: newKey() };
  const { results } = await call(checkout.batches, "batchTokenize", request);
  // One verdict for each item, in their order; a bad item spoils nothing but itself.
  assert.deepEqual(results.map((result) => result.verdict), ["token", "refusal", "token", "token"]);
  assert.equal(results[1].refusal.reason, "PAN_LUHN");
  assert.equal(results[1].refusal.code, grpc.status.INVALID_ARGUMENT);
  assert.match(results[2].token, /^tok_ssn_[a-p]{40}$/);
  assert.ok(results.every((result) => result.receipt.leafHash.length === 32));

  const tokens = results.filter((result) => result.verdict === "token").map((result) => result.token);
  const items = [...tokens, "no token at all"].map((token) => ({ token }));
  const answer = await call(billing.batches, "batchDetokenize", { items, ...RELEASE });
  const verdicts = answer.results.map((result) => result.verdict);
  assert.deepEqual(verdicts, ["record", "record", "record", "refusal"]);
  const [visa, number, amex, none] = answer.results;
  assert.equal(visa.record.value.card.pan.toString(), VISA);
  assert.equal(number.record.value.ssn.number.toString(), "078051120");
  assert.equal(amex.record.value.card.pan.toString(), AMEX);
  assert.equal(none.refusal.reason, "TOKEN_MALFORMED");
  assert.ok(answer.results.every((result) => result.receipt.leafHash.length === 32));
}

async function refusalsSayWhy(checkout, billing, token) {
  // What was sent is wrong: the check digit.
  const wrong = { value: card("4111111111111112") };
  await expect(grpc.status.INVALID_ARGUMENT, "PAN_LUHN", checkout.values, "tokenize", wrong);

  // The role is wrong: checkout stores values and never gets one back.
  const foreign = { token, ...RELEASE };
  await expect(grpc.status.PERMISSION_DENIED, "DENIED", checkout.values, "detokenize", foreign);

  // The token's tag is wrong: a guess, or a token of another vault.
  const guess = token.slice(0, -1) + (token.endsWith("a") ? "b" : "a");
  const unknown = { token: guess, ...RELEASE };
  await expect(grpc.status.NOT_FOUND, "UNKNOWN_TOKEN", billing.values, "detokenize", unknown);

  // The key was used for another request: a defect of the caller, which would lose one of two values.
  const idempotencyKey = newKey();
  await call(checkout.values, "tokenize", { value: card(VISA), idempotencyKey });
  const other = { value: card(AMEX), idempotencyKey };
  await expect(grpc.status.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED", checkout.values, "tokenize", other);
}

async function expect(code, reason, client, method, request) {
  const error = await call(client, method, request).then(
    () => assert.fail(`${reason} was expected, and the call succeeded`),
    (error) => error,
  );
  const refusal = refusalOf(error);
  assert.deepEqual({ code: refusal.code, reason: refusal.reason }, { code, reason });
  assert.equal(passes(refusal), false);
  assert.ok(!error.message.includes("411111111111"), "what was sent is not repeated");
}

async function aLostAnswerIsAskedForAgain(checkout) {
  const items = Array.from({ length: 200 }, () => ({ value: card(VISA) }));
  const request = { items, idempotencyKey: newKey() };
  const { results } = await call(checkout.batches, "batchTokenize", request);
  return new Set(results.map((result) => result.token)).size;
}

async function main(protoFolder, folder, lossy) {
  const services = load(protoFolder);
  const endpoint = lossy ?? readFileSync(join(folder, "endpoint"), "utf8");
  const checkout = connectAs("checkout", services, folder, endpoint);
  const billing = connectAs("billing", services, folder, endpoint);
  try {
    if (lossy) {
      const tokens = await aLostAnswerIsAskedForAgain(checkout);
      return `node: ${tokens} tokens after a lost answer`;
    }
    const token = await oneValueGoesInAndComesBack(checkout, billing);
    await manyValuesGoInAndComeBack(checkout, billing);
    await refusalsSayWhy(checkout, billing, token);
    return "node: values, batches and refusals are as the .proto files say";
  } finally {
    checkout.close();
    billing.close();
  }
}

const [protoFolder, folder, option, lossy] = process.argv.slice(2);
console.log(await main(protoFolder, folder, option === "--lost-answer" ? lossy : undefined));
