"""Compares token ids. Called by check-tokenizers.

usage: check_tokenizers.py PROGRAM WORK_FOLDER MODEL_FOLDER...
"""

import json
import random
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer

AWKWARD = {
    "empty": "",
    "one space": " ",
    "emoji": "clocks ⏱️🕰️ and a family 👨‍👩‍👧‍👦 with skin 👍🏽",
    "CJK": "干涉仪测量微小的差别。干渉計は小さな違いを測る。간섭계",
    "right to left": "مقياس التداخل and מד התאבכות mixed",
    "combining": "e\u0301 versus \u00e9, n\u0303, \u1e9b\u0323",
    "CRLF": "first\r\nsecond\r\n\r\nthird\rfourth\n",
    "long spaces": "a" + " " * 500 + "b" + "\t" * 70 + "c" + "\n" * 90 + "d  \n  \n e",
    "control": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f\u200b\u200d\u2028\u2029\ufeff",
    "nul": "a\x00b",
    "no-break": "10\u00a0ms\u202f5\u2009µs",
    "digits": "3.14159 1,000,000 1e-9 ٣٤٥ ⅷ ²",
    "contractions": "It's they'RE we'll I'D 'twas rock'n'roll ''s",
    "special": "<|im_start|>user\nhi<|im_end|><|endoftext|> <|im_start|<|im_end|>|> <|begin_of_text|>x",
    "private and last": "\ue000\U0010ffff\U0001f9ff\ufffd",
    "code": "def f(x):\n    return {'a': [x**2, ~x]}  # ok\n\n\n\tif x!=3:\n",
}

def run(*arguments):
    result = subprocess.run(arguments, capture_output=True)
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def check_ids(program, work, folder):
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = dict(AWKWARD)
    for prompt in sorted(Path("scenarios/prompts").glob("*.txt")):
        texts[prompt.name] = prompt.read_bytes().decode()
    texts["random"] = random_text()
    count = 0
    for name, text in texts.items():
        file = work / "text"
        file.write_bytes(text.encode())
        for plain in (False, True):
            expected = reference.encode(text, add_special_tokens=not plain).ids
            code, out, error = run(program, "model", "encode", folder, "--text-file", file, *(["--plain"] if plain else []))
            if code != 0:
                sys.exit(f"{folder.name}, {name}: {error}")
            found = json.loads(out)
            if found != expected:
                at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
                sys.exit(f"{folder.name}, {name}: ids differ at {at}: {found[at:at + 8]} here, {expected[at:at + 8]} in Python")
            count += len(found)
    return len(texts), count


def random_text():
    """Characters of every plane, mixed with words and spaces."""
    generator = random.Random(7)
    ranges = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0xDFF), (0x2000, 0x2BFF),
              (0x3000, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF)]
    pieces = []
    for _ in range(20_000):
        pieces.append(chr(generator.randint(*generator.choice(ranges))))
        if generator.random() < 0.3:
            pieces.append(generator.choice([" ", "  ", "\n", "\r\n", "the", "'s", "measure", "\t"]))
    return "".join(pieces)


def main():
    program, work, *folders = sys.argv[1:]
    program, work = str(Path(program).resolve()), Path(work)
    for folder in map(Path, folders):
        texts, ids = check_ids(program, work, folder)
        print(f"{folder.name}: {texts} texts, {ids} ids, all equal")


main()
