"""Checks a receipt, written from FORMAT.md alone: check_receipt.py VERIFIER-KEY... RECEIPT-FILE
Exit 0 and what is promised, or exit 1 and why the receipt is refused."""
import re, sys
from check_proof import MOST, NAME, climb, need, number, sha256, signed, small_order, u, unbase64

TYPE, STANDINGS = b"\xffevent-seal/1 receipt", {"pool": b"\x50", "settled": b"\x53", "retracted": b"\x52"}
HEX16, HEX32 = "([0-9a-f]{32})", "([0-9a-f]{64})"
RECEIPT = re.compile(
    f"event-seal/1 receipt\nsuite (sha256|blake3)\ngenesis {HEX32}\neuid {HEX16}\nrevision (.+)\nrecorded_at (.+)\n"
    f"commitment {HEX32}\nevent {HEX32}\nstanding (pool|settled|retracted)\ndeadline (.+)\ncount (.+)\nindex (.+)\n"
    f"((?:path [0-9a-f]{{64}}\n)*)\n— ({NAME}) (.+)\n")

def verifier_key(text):
    parts = re.fullmatch(f"({NAME})\\+([0-9a-f]{{8}})\\+(.+)", text)
    need(parts, "no verifier key")
    name, short, key = parts[1], bytes.fromhex(parts[2]), unbase64(parts[3])
    need(key[:-32] == TYPE and short == sha256(name.encode() + b"\n" + key)[:4], "no verifier key of receipts")
    public = key[-32:]
    need(int.from_bytes(public, "little") % 2**255 < 2**255 - 19 and not small_order(public), "a weak key")
    return name, short, public

def check(keys, receipt):
    """What the receipt promises; ValueError if it is refused."""
    need(len({key[2] for key in keys}) == len(keys), "one key twice")
    fields = RECEIPT.fullmatch(receipt)
    need(fields, "not of the form of a receipt")
    suite, G, euid, revision, recorded_at, B, E, standing, deadline, count, index, path, name, signature = fields.groups()
    recorded_at = number(-MOST, MOST, recorded_at)
    deadline = number(recorded_at, MOST, deadline)
    promise = (STANDINGS[standing] + u(1, 2 if suite == "blake3" else 1) + bytes.fromhex(G + euid)
               + u(2, number(0, 2**16 - 1, revision)) + u(8, recorded_at) + bytes.fromhex(B + E) + u(8, deadline))
    count = number(1, 2**32 - 1, count)
    nodes = [bytes.fromhex(line[5:]) for line in path.split("\n")[:-1]]
    root = climb(lambda pair: sha256(b"\1" + pair), sha256(b"\0" + promise), number(0, count - 1, index), count, nodes)
    text = f"event-seal/1 receipts\ncount {count}\nroot {root.hex()}\n"
    short, signature = unbase64(signature)[:4], unbase64(signature)[4:]
    by = [key for key in keys if key[:2] == (name, short) and signed(1, key[2], text, signature)]
    need(by, "no key of receipts has signed this")
    return f"{euid} {standing} revision {revision} by {deadline}"

if __name__ == "__main__":
    try:
        print("promised:", check([verifier_key(text) for text in sys.argv[1:-1]], open(sys.argv[-1], "rb").read().decode()))
    except ValueError as refusal:
        sys.exit(f"refused: {refusal}")
