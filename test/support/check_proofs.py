"""Checks proofs one after another, as check_proof.py does one: reads u32 length, then the keys, one a line, an empty line
and the proof; writes u32 length and the verdict. Any error that is no refusal ends it."""
import sys
from check_proof import check, verifier_key

def verdict(request):
    keys, _, proof = request.partition(b"\n\n")
    try:
        return "proved: " + check([verifier_key(key) for key in keys.decode().split("\n")], proof.decode())
    except ValueError as refusal:
        return f"refused: {refusal}"

while length := sys.stdin.buffer.read(4):
    answer = verdict(sys.stdin.buffer.read(int.from_bytes(length, "big"))).encode()
    sys.stdout.buffer.write(len(answer).to_bytes(4, "big") + answer)
    sys.stdout.buffer.flush()
