// The vault from Node: connecting, calling with a deadline, repeating safely, reading refusals.
// Needs the packages in package-lock.json and the vault's .proto files, which are read as they are.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const { status } = grpc;

// Longer than the vault ever takes when it is well; shorter than anybody wants to wait for a dead one.
const ATTEMPT_MS = 5_000;

/** The services of vault.v1, read from the folder that holds `vault/v1/*.proto`. */
export function load(protoFolder) {
  const files = ["tokenization", "batches"].map((name) => `vault/v1/${name}.proto`);
  const options = { includeDirs: [protoFolder], enums: String, longs: String, defaults: true, oneofs: true };
  return grpc.loadPackageDefinition(protoLoader.loadSync(files, options)).vault.v1;
}

/**
 * Opens the clients of both services over mutual TLS, which share connections. Keep them: a handshake costs far
 * more than a call. `serverName` is the name in the vault's certificate, where it is not the endpoint's host.
 */
export function connect(services, endpoint, { ca, certificate, key, serverName }) {
  const credentials = grpc.credentials.createSsl(
    readFileSync(ca),
    readFileSync(key),
    readFileSync(certificate),
  );
  // Retries are this module's: gRPC's own know nothing of idempotency keys.
  const options = { "grpc.enable_retries": 0 };
  if (serverName) options["grpc.ssl_target_name_override"] = serverName;
  const values = new services.Tokenization(endpoint, credentials, options);
  const batches = new services.Batches(endpoint, credentials, { channelOverride: values.getChannel() });
  return { values, batches, close: () => values.close() };
}

/** What `google.rpc.Status` and the details that the vault puts into it look like on the wire. */
const rpc = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
`).root;

/** What a failed call says for programs. Nothing in it repeats what was sent, so it may be logged. */
export function refusalOf(error) {
  const refusal = { code: error.code, reason: undefined, retryAfterMs: undefined };
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  for (const { typeUrl, value } of bytes ? rpc.lookupType("Status").decode(bytes).details : []) {
    if (typeUrl.endsWith("/google.rpc.ErrorInfo")) {
      const info = rpc.lookupType("ErrorInfo").decode(value);
      if (info.domain === "vault.v1") refusal.reason = info.reason;
    }
    if (typeUrl.endsWith("/google.rpc.RetryInfo")) {
      const { seconds, nanos } = rpc.lookupType("RetryInfo").decode(value).retryDelay;
      refusal.retryAfterMs = Number(seconds) * 1_000 + nanos / 1e6;
    }
  }
  return refusal;
}

/** Whether the same call may succeed later. */
export function passes({ code, retryAfterMs }) {
  return code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED || retryAfterMs !== undefined;
}

/**
 * Calls until there is an answer, a refusal that no waiting cures, or the time is up.
 *
 * A failed attempt may have been carried out all the same, its answer lost. So tokenize and batchTokenize need
 * an idempotency key, the same in every attempt; the other calls change no record.
 */
export async function call(client, method, request, ms = 30_000) {
  const end = Date.now() + ms;
  for (let pause = 100; ; pause = Math.min(2 * pause, 5_000)) {
    try {
      return await attempt(client, method, request, Math.min(Date.now() + ATTEMPT_MS, end));
    } catch (error) {
      const refusal = refusalOf(error);
      // At random, so that clients that failed together do not come back together.
      const wait = (refusal.retryAfterMs ?? 0) + pause * Math.random();
      if (!passes(refusal) || Date.now() + wait >= end) throw error;
      await sleep(wait);
    }
  }
}

function attempt(client, method, request, deadline) {
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}
