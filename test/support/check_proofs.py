"""Checks proofs one after another, as check_proof.py does one, or receipts, as check_receipt.py does (the module is named):
reads u32 length, then the keys, one a line, an empty line and the proof; writes u32 length and the verdict. Any error that
is no refusal ends it."""
import importlib, sys

module = importlib.import_module(sys.argv[1])

def verdict(request):
    keys, _, proof = request.partition(b"\n\n")
    try:
        return "proved: " + module.check([module.verifier_key(key) for key in keys.decode().split("\n")], proof.decode())
    except ValueError as refusal:
        return f"refused: {refusal}"

while length := sys.stdin.buffer.read(4):
    answer = verdict(sys.stdin.buffer.read(int.from_bytes(length, "big"))).encode()
    sys.stdout.buffer.write(len(answer).to_bytes(4, "big") + answer)
    sys.stdout.buffer.flush()
