"""Compares tokenizers with llama.cpp's. Called by check-gguf-tokenizers.

usage: check_gguf_tokenizers.py PROGRAM WORK_FOLDER RANDOM_TEXTS FILE...
"""

import ctypes
import json
import random
import subprocess
import sys
import sysconfig
import unicodedata
from pathlib import Path

import gguf
import llama_cpp
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HARD = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n\n\n", "\r\n", "\r", "\t", "\t\t \t", " \n", "\n ", " \n \n ", "a\n", " a", "a ", "  a  b   c    d",
    "a" + " " * 70 + "b" + "\t" * 40 + "c" + "\n" * 40 + "d  \n  \n e", "x" * 300, "ab" * 300, "\u00e9" * 100, " " * 100, "\n" * 100,
    "It's they'RE we'll I'D 'twas rock'n'roll ''s 'S 'T 'LL 'll'Ve 'm'd", "'\u017f'K \u212a's \u2019s \u02bcs", "don't DON'T Don'T",
    "3.14159 1,000,000 1e-9 12345678 1 12 123 1234 007 \u0663\u0664\u0665\u0666\u0667\u0668 \u2167 \u00b2\u00b3 \u00bd 1\u0662 a1b22c333d4444", "  42", "\n42", "x=1;y=22;",
    "\u5e72\u6d89\u4eea\u6d4b\u91cf\u5fae\u5c0f\u7684\u5dee\u522b\u3002\u5e72\u6e09\u8a08\u306f\u5c0f\u3055\u306a\u9055\u3044\u3092\u6e2c\u308b\u3002\uac04\uc12d\uacc4 \u4e2d\u6587English\u6df7\u5408123", "\u30ab\u30bf\u30ab\u30ca \u3072\u3089\u304c\u306a \uff48\uff41\uff4c\uff46 \uff01\uff1f\u3000\u3000\u3001\u3002",
    "clocks \u23f1\ufe0f\U0001f570\ufe0f and a family \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 with skin \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea", "\U0001f600", " \U0001f600 ", "\U0001f600\U0001f600",
    "e\u0301 versus \u00e9, n\u0303, \u1e9b\u0323 a\u0300\u0301\u0302b \u0301x", "\u0928\u092e\u0938\u094d\u0924\u0947 \u09ac\u09be\u0982\u09b2\u09be \u0c24\u0c46\u0c32\u0c41\u0c17\u0c41 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
    "\u0645\u0642\u064a\u0627\u0633 \u0627\u0644\u062a\u062f\u0627\u062e\u0644 and \u05de\u05d3 \u05d4\u05ea\u05d0\u05d1\u05db\u05d5\u05ea mixed \u200f\u200e", "\u0391\u0392\u0393 \u03b1\u03b2\u03b3 \u041f\u0440\u0438\u0432\u0435\u0442 \u041c\u0438\u0440 \u01c5 \u01c4 \u01c6 \u00df \u1e9e",
    "def f(x):\n    return {'a': [x**2, ~x]}  # ok\n\n\n\tif x!=3:\n", "for (int i=0;i<10;++i){a[i]+=b->c;}//x\n", "<div class=\"a\">&nbsp;</div>", "a/b\\c//d/\n/e\r\n",
    "https://example.org/a/b?c=d&e=%20#f user@host.tld", "CamelCaseHTTPServer snake_case kebab-case SCREAMING_CASE iPhone eBay aB Ab AB ab",
    "".join(map(chr, range(1, 32))), "\x7f", "a\x7fb", "\x01\x02 \x03", "\x80\x85\x9f\u200b\u200d\u2028\u2029\ufeff", "a\u0085b\u00a0c\u1680d\u2003e\u202ff\u205fg\u3000h\u180ei", " \u00a0 \u3000\n\u2028 x",
    "10\u00a0ms\u202f5\u2009\u00b5s", "\ue000\U0010ffff\U0001f9ff\ufffd\U000e0001", "$5 \u20ac6 +=<>^`|~ !?.,:;-_()[]{}@#%&*\"'/\\", "...!!!???---___", " ...", "a...b!!! ?", "\u2026\u2026\u2014\u2013\u201c\u201d\u2018\u2019\uff5e",
    "<|im_start|>user\nhi<|im_end|><|endoftext|> <|im_start|<|im_end|>|> <|begin_of_text|>x", "<s>a</s> b<unk> <s> <bos><eos><start_of_turn>user\nx<end_of_turn>\n", "<pad>\n<mask> [INST] x [/INST] <|end|>\n<|user|>  hi",
    "<0x41><0x0A> <0xFF> \u2581 \u2581\u2581a \u2581", "\u0120the \u010a \u0100", "<unused5><|reserved_special_token_3|>[UNK][PAD]", "<|start|>assistant<|channel|>final<|message|>x<|return|>",
    "IMGIMGABCZ <sentinel:12> IMGIMGZ", "The quick brown fox jumps over the lazy dog.", "THE QUICK BROWN FOX", "na\u00efve caf\u00e9 \u00c5ngstr\u00f6m \u0141\u00f3d\u017a",
]

# Of these, every character is compared: together they use all categories.
THOROUGH = ["gpt-2.gguf", "qwen35.gguf", "gpt-4o.gguf", "deepseek-v3.gguf", "llama.gguf"]

# Each name that llama.cpp knows and this program reads, one for each list of patterns and both settings of its flags.
PRE = [
    "default", "gpt-2", "smollm", "starcoder", "refact", "command-r", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "codeshell", "exaone",
    "minerva-7b", "mellum2", "exaone4", "llama-bpe", "llama3", "falcon3", "pixtral", "lfm2", "dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "qwen2",
    "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2", "qwen35", "gpt-4o", "llama4", "minimax-m2", "tekken", "deepseek-llm",
    "deepseek-coder", "deepseek-v3", "hunyuan-dense", "spark2_5", "falcon", "poro-chat", "bloom", "viking", "jais-2", "youtu", "granite-embed-multi-97m", "tiny_aya",
    "superbpe", "bailingmoe", "seed-coder", "ufakzeka", "afmoe", "laguna", "exaone-moe", "minicpm5", "chameleon",
]

FOREIGN = " ".join(text for text in HARD if any(ord(c) > 127 for c in text))


def corpus():
    """Text of this machine to learn merges from: Python's library, and the hard texts."""
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:60]
    return [path.read_text(encoding="utf-8", errors="replace") for path in sources] + [FOREIGN] * 20


def byte_level(size):
    """Tokens and merges of a byte-level vocabulary, whose merges cross every boundary that a pre-tokenizer may set."""
    tokenizer = Tokenizer(models.BPE())
    # Without a pattern, so that merges of spaces, digits, letters and signs are learnt together.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n\n", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [text[at : at + 40] for text in corpus() for at in range(0, len(text), 40)]
    extra = ["12", "123", "1234", "'s 't 're", "'S'LL", "a1b2", "   ", "\t\t", "\n\n\n", " \n", "\r\n", "x" * 8, "AbC", "AB", "ab/", ".\n", "?/\n", " ." , "))"]
    tokenizer.train_from_iterator(texts + extra * 400, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False, max_token_length=24))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]


CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|call|>", "<|end|>", "[INST]"]
DEFINED = ["<|user|>", "  \n", "CamelCase"]


def write(path, model, pre, tokens, kinds, merges=None, scores=None, **more):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    if merges is not None:
        writer.add_token_merges(merges)
    if scores is not None:
        writer.add_token_scores(scores)
    for name, value in more.items():
        getattr(writer, f"add_{name}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def synthetic(work):
    """Vocabulary files: of byte level for each pre-tokenizer, and two with scores."""
    tokens, merges = byte_level(6000)
    kinds = [1] * len(tokens) + [3] * len(CONTROL) + [4] * len(DEFINED)
    ids = {"bos_token_id": len(tokens) + 3, "eos_token_id": len(tokens)}
    for pre in PRE:
        yield write(work / f"{pre}.gguf", "gpt2", pre, tokens + CONTROL + DEFINED, kinds, merges, **ids)
    yield write(work / "gpt-2-both.gguf", "gpt2", "gpt-2", tokens + CONTROL + DEFINED, kinds, merges, add_bos_token=True, add_eos_token=True, **ids)
    for name, more in {
        "llama": {},
        "llama-without-prefix": {"add_space_prefix": False, "add_eos_token": True},
        "llama-phi-3": {"name": "Phi-3 mini"},
    }.items():
        yield scored(work / f"{name}.gguf", tokens, **more)


def scored(path, learnt, **more):
    """A vocabulary of SentencePiece's kind: many equal scores, and tokens whose parts are none."""
    generator = random.Random(3)
    decoder = {chr_: byte for byte, chr_ in byte_characters().items()}
    words = set()
    for token in learnt:
        try:
            text = bytes(decoder[c] for c in token).decode()
        except UnicodeDecodeError:
            continue
        if len(text) > 0 and "\x00" not in text:
            words.add(text.replace(" ", "\u2581"))
    words = sorted(words)
    generator.shuffle(words)
    special = ["<unk>", "<s>", "</s>"]
    tokens = special + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [2, 3, 3] + [6] * 256
    scores = [0.0] * len(tokens)
    control = ["<|user|>", "<|end|>", "<start_of_turn>", "<end_of_turn>", "<|endoftext|>"]
    # Names of one length are looked for in an order that llama.cpp leaves open, which shows where white space is dropped.
    lengths = {len(name) for name in special + control}
    defined = ["\n" * n for n in range(2, 12) if n not in lengths] + ["\u2581" * n for n in range(2, 9)] + ["<table>"]
    for word in words:
        if word not in defined:
            tokens.append(word)
            kinds.append(1)
            scores.append(float(-generator.randint(0, 400)))
    tokens += control + defined
    kinds += [3] * len(control) + [4] * len(defined)
    scores += [-1000.0] * (len(control) + len(defined))
    return write(path, "llama", None, tokens, kinds, None, scores, bos_token_id=1, eos_token_id=2, **more)


def byte_characters():
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + at) for at, byte in enumerate(hidden)}


def random_texts(count):
    """Texts of characters of every plane and of pieces that pre-tokenizers treat specially."""
    generator = random.Random(7)
    ranges = [(0x20, 0x7E), (0x20, 0x7E), (0x20, 0x7E), (0x1, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0xDFF), (0xE00, 0x1FFF), (0x2000, 0x2BFF),
              (0x3000, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7A3), (0xF900, 0xFFFD), (0x10000, 0x1F2FF), (0x1F300, 0x1FAFF), (0x20000, 0x2FA1D)]
    pieces = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "'s", "'LL", "'t", "the", "The", "THE", "iX", "1", "22", "333", "4444", ".", "...", "/", ")\n", "\u0301", "\u3000", "\u00a0",
              "<|im_end|>", "<s>", "</s>", "<|end|>", "<|channel|>", "<end_of_turn>", "\u2581", "\u00e9", "\u4e2d", "\U0001f600", "\u0130", "\u01c5", "_", "\u02b0"]
    texts = []
    for _ in range(count):
        text = ""
        for _ in range(generator.randint(1, 40)):
            if generator.random() < 0.5:
                text += generator.choice(pieces)
            else:
                text += chr(generator.randint(*generator.choice(ranges)))
        # Characters that no version of Unicode has are classified by the version of a program's tables.
        texts.append("".join(c for c in text if unicodedata.category(c) != "Cn"))
    return texts


def every_character():
    """All characters, each after a letter and after a digit, in texts of some hundred bytes."""
    characters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    for at in range(0, len(characters), 64):
        yield "".join(f"a{c}1{c}" for c in characters[at : at + 64])


class Reference:
    """llama.cpp with the vocabulary of a file."""

    def __init__(self, path):
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {path}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)

    def ids(self, text, add_special):
        raw = text.encode()
        room = len(raw) + 16
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocabulary, raw, len(raw), ids, room, add_special, True)
        return list(ids[:count])

    def pieces(self, ids):
        """The bytes of the tokens, joined."""
        parts = []
        for id in ids:
            buffer = ctypes.create_string_buffer(256)
            count = llama_cpp.llama_token_to_piece(self.vocabulary, id, buffer, 256, 0, True)
            parts.append(buffer.raw[:count])
        return b"".join(parts)

    def special(self):
        v, count = self.vocabulary, llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        none = lambda id: None if id < 0 else id
        return {
            "bos": none(llama_cpp.llama_vocab_bos(v)),
            "eos": none(llama_cpp.llama_vocab_eos(v)),
            "add_bos": llama_cpp.llama_vocab_get_add_bos(v),
            "add_eos": llama_cpp.llama_vocab_get_add_eos(v),
            "stop": [id for id in range(count) if llama_cpp.llama_vocab_is_eog(v, id)],
        }


def check(program, path, texts):
    """Differences of one file."""
    reference = Reference(path)
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    result = subprocess.run([program, "encode", path], input=lines, capture_output=True, text=True)
    if result.returncode != 0:
        print(f"{path}: {result.stderr.strip()}")
        return 1, 0
    differences, count = 0, 0

    def differ(what, text, ours, theirs):
        nonlocal differences
        differences += 1
        if differences <= 3:
            print(f"  {Path(path).name}: {what} of {text!r}\n    here      {ours}\n    llama.cpp {theirs}")

    for text, line in zip(texts, result.stdout.rstrip("\n").split("\n"), strict=True):
        ours, plain, decoded, streamed = json.loads(line)
        theirs, theirs_plain = reference.ids(text, True), reference.ids(text, False)
        count += len(theirs_plain)
        if (ours, plain) != (theirs, theirs_plain):
            differ("ids", text, plain, theirs_plain)
            continue
        expected = reference.pieces(theirs_plain).decode(errors="replace")
        # A prefixed space is dropped from the start.
        if decoded != expected and " " + decoded != expected:
            differ("text", text, decoded, expected)
        if streamed != decoded:
            differ("streamed text", text, streamed, decoded)
    special = json.loads(subprocess.run([program, "special", path], capture_output=True, check=True).stdout)
    for name, theirs in reference.special().items():
        if special[name] != theirs:
            differ(name, "special tokens", special[name], theirs)
    return differences, count


def main():
    program, work, random_count, *files = sys.argv[1:]
    texts = HARD + random_texts(int(random_count))
    silence = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silence, ctypes.c_void_p(0))
    failed = 0
    for path in [*files, *synthetic(Path(work))]:
        own = texts + (list(every_character()) if Path(path).name in THOROUGH else [])
        differences, ids = check(program, path, own)
        failed += differences
        print(f"{Path(path).name}: {len(own)} texts, {ids} ids, {differences} differences", flush=True)
    sys.exit(failed > 0)


main()
