"""Shows that the vault can be used from Python, and how.

    checks.py FOLDER                          against `vaultd dev --dir FOLDER`
    checks.py FOLDER --lost-answer ENDPOINT   over a network that loses the first answer

FOLDER holds `endpoint` and `certs/`. All numbers here are published for tests.
"""

import secrets
import sys
from pathlib import Path

import grpc
from client import Refusal, call, connect
from vault.v1 import batches_pb2, batches_pb2_grpc, tokenization_pb2, tokenization_pb2_grpc, types_pb2

VISA = b"4111111111111111"
AMEX = b"378282246310005"
SSN = b"078-05-1120"  # printed in advertisements, never issued since
RELEASE = {"purpose": "settlement", "recipient": "acquirer", "reference": "case-1"}


class Principal:
    """What one principal of the folder can call."""

    def __init__(self, folder: Path, name: str, endpoint: str):
        certs = folder / "certs"
        channel = connect(endpoint, certs / "ca.pem", certs / f"{name}.pem", certs / f"{name}.key")
        self.values = tokenization_pb2_grpc.TokenizationStub(channel)
        self.batches = batches_pb2_grpc.BatchesStub(channel)


def card(pan: bytes) -> types_pb2.Value:
    return types_pb2.Value(card=types_pb2.Card(pan=pan, expiry=types_pb2.Expiry(month=12, year=2030)))


def ssn(number: bytes) -> types_pb2.Value:
    return types_pb2.Value(ssn=types_pb2.Ssn(number=number))


def new_key() -> str:
    """An idempotency key: made once for each thing to be stored, kept until its token is."""
    return secrets.token_hex(16)


def one_value_goes_in_and_comes_back(checkout: Principal, billing: Principal) -> str:
    request = tokenization_pb2.TokenizeRequest(
        value=card(VISA),
        purposes=["settlement"],
        reference="order-1",
        idempotency_key=new_key(),
    )
    stored = call(checkout.values.Tokenize, request)
    assert stored.token.startswith("tok_pan_") and len(stored.token) == 48
    assert stored.masked.text == "************1111"
    assert len(stored.receipt.leaf_hash) == 32

    # The same request with the same key again, as after a lost answer: the same token.
    assert call(checkout.values.Tokenize, request).token == stored.token

    request = tokenization_pb2.DetokenizeRequest(token=stored.token, **RELEASE)
    released = call(billing.values.Detokenize, request)
    assert released.value.card.pan == VISA
    assert (released.value.card.expiry.month, released.value.card.expiry.year) == (12, 2030)
    assert released.record_version == 1
    return stored.token


def many_values_go_in_and_come_back(checkout: Principal, billing: Principal) -> None:
    values = [card(VISA), card(b"4111111111111112"), ssn(SSN), card(AMEX)]
    request = batches_pb2.BatchTokenizeRequest(
        items=[batches_pb2.BatchTokenizeItem(value=value) for value in values],
        idempotency_key=new_key(),
    )
    results = call(checkout.batches.BatchTokenize, request).results
    # One verdict for each item, in their order; a bad item spoils nothing but itself.
    verdicts = [result.WhichOneof("verdict") for result in results]
    assert verdicts == ["token", "refusal", "token", "token"]
    assert results[1].refusal.reason == "PAN_LUHN"
    assert results[1].refusal.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert results[2].token.startswith("tok_ssn_")
    assert all(len(result.receipt.leaf_hash) == 32 for result in results)

    tokens = [result.token for result in results if result.token] + ["no token at all"]
    request = batches_pb2.BatchDetokenizeRequest(
        items=[batches_pb2.BatchDetokenizeItem(token=token) for token in tokens],
        **RELEASE,
    )
    results = call(billing.batches.BatchDetokenize, request).results
    assert [result.WhichOneof("verdict") for result in results] == ["record", "record", "record", "refusal"]
    assert [result.record.value.card.pan for result in results] == [VISA, b"", AMEX, b""]
    assert results[1].record.value.ssn.number == b"078051120"
    assert results[3].refusal.reason == "TOKEN_MALFORMED"
    assert all(len(result.receipt.leaf_hash) == 32 for result in results)


def refusals_say_why(checkout: Principal, billing: Principal, token: str) -> None:
    # What was sent is wrong: the check digit.
    wrong = tokenization_pb2.TokenizeRequest(value=card(b"4111111111111112"))
    expect(grpc.StatusCode.INVALID_ARGUMENT, "PAN_LUHN", checkout.values.Tokenize, wrong)

    # The role is wrong: checkout stores values and never gets one back.
    foreign = tokenization_pb2.DetokenizeRequest(token=token, **RELEASE)
    expect(grpc.StatusCode.PERMISSION_DENIED, "DENIED", checkout.values.Detokenize, foreign)

    # The token's tag is wrong: a guess, or a token of another vault.
    guess = token[:-1] + ("a" if token[-1] != "a" else "b")
    unknown = tokenization_pb2.DetokenizeRequest(token=guess, **RELEASE)
    expect(grpc.StatusCode.NOT_FOUND, "UNKNOWN_TOKEN", billing.values.Detokenize, unknown)

    # The key was used for another request: a defect of the caller, which would lose one of two values.
    used = new_key()
    call(checkout.values.Tokenize, tokenization_pb2.TokenizeRequest(value=card(VISA), idempotency_key=used))
    other = tokenization_pb2.TokenizeRequest(value=card(AMEX), idempotency_key=used)
    expect(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED", checkout.values.Tokenize, other)


def expect(code: grpc.StatusCode, reason: str, rpc, request) -> None:
    try:
        call(rpc, request)
    except grpc.RpcError as error:
        refusal = Refusal.of(error)
        assert (refusal.code, refusal.reason) == (code, reason), refusal
        assert not refusal.passes(), refusal
        assert "411111111111" not in error.details(), "what was sent is not repeated"
    else:
        raise AssertionError(f"{reason} was expected, and the call succeeded")


def a_lost_answer_is_asked_for_again(checkout: Principal) -> int:
    items = [batches_pb2.BatchTokenizeItem(value=card(VISA))] * 200
    request = batches_pb2.BatchTokenizeRequest(items=items, idempotency_key=new_key())
    results = call(checkout.batches.BatchTokenize, request).results
    return len({result.token for result in results})


def main(folder: Path, lossy: str | None) -> None:
    endpoint = lossy or (folder / "endpoint").read_text()
    checkout = Principal(folder, "checkout", endpoint)
    if lossy:
        print(f"python: {a_lost_answer_is_asked_for_again(checkout)} tokens after a lost answer")
        return
    billing = Principal(folder, "billing", endpoint)
    token = one_value_goes_in_and_comes_back(checkout, billing)
    many_values_go_in_and_come_back(checkout, billing)
    refusals_say_why(checkout, billing, token)
    print("python: values, batches and refusals are as the .proto files say")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3] if sys.argv[2:3] == ["--lost-answer"] else None)
