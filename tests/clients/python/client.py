"""The vault from Python: connecting, calling with a deadline, repeating safely, reading refusals.

Needs the packages in requirements.txt and the code that grpcio-tools generates from the vault's .proto files:

    python -m grpc_tools.protoc -I proto --python_out=OUT --grpc_python_out=OUT proto/vault/v1/*.proto
"""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

# Longer than the vault ever takes when it is well; shorter than anybody wants to wait for a dead one.
ATTEMPT_SECONDS = 5.0


def connect(endpoint: str, ca: Path, certificate: Path, key: Path) -> grpc.Channel:
    """Opens a channel over mutual TLS. Keep it: a handshake costs far more than a call."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=ca.read_bytes(),
        private_key=key.read_bytes(),
        certificate_chain=certificate.read_bytes(),
    )
    # Retries are this module's: gRPC's own know nothing of idempotency keys.
    return grpc.secure_channel(endpoint, credentials, options=[("grpc.enable_retries", 0)])


@dataclass(frozen=True)
class Refusal:
    """What a failed call says for programs. Nothing in it repeats what was sent, so it may be logged."""

    code: grpc.StatusCode
    reason: str | None  # such as PAN_LUHN; None where the failure is not the vault's own
    retry_after: float | None  # seconds; None where the vault does not ask to wait

    @classmethod
    def of(cls, error: grpc.RpcError) -> "Refusal":
        reason = retry_after = None
        # The details travel as a google.rpc.Status in the trailer `grpc-status-details-bin`.
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == "vault.v1":
                reason = info.reason
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(retry):
                retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        return cls(error.code(), reason, retry_after)

    def passes(self) -> bool:
        """Whether the same call may succeed later."""
        lost = self.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return lost or self.retry_after is not None


def call(rpc, request, seconds: float = 30.0):
    """Calls until there is an answer, a refusal that no waiting cures, or the time is up.

    A failed attempt may have been carried out all the same, its answer lost. So Tokenize and BatchTokenize
    need an idempotency key, the same in every attempt; the other calls change no record.
    """
    end = time.monotonic() + seconds
    pause = 0.1
    while True:
        try:
            return rpc(request, timeout=min(ATTEMPT_SECONDS, max(0.0, end - time.monotonic())))
        except grpc.RpcError as error:
            refusal = Refusal.of(error)
            # At random, so that clients that failed together do not come back together.
            wait = (refusal.retry_after or 0.0) + pause * random.random()
            if not refusal.passes() or time.monotonic() + wait >= end:
                raise
        time.sleep(wait)
        pause = min(2 * pause, 5.0)
