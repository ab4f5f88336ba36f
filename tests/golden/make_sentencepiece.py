#!/usr/bin/env python3
"""Makes sentencepiece/: small .model files, trained and put together by hand, and texts.json: what each makes of texts.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_sentencepiece.py

The reference is the sentencepiece library: ids, where each begins and ends (in bytes), and what ids decode to.
"""
import contextlib
import io
import json
import os
import random
import shutil
import struct
import tempfile

import sentencepiece as spm

from make_text import ENGLISH, EMOJI, MARKS, NUMBERS, SCRIPTS, SPACES

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "sentencepiece")
CORPUS = [t for text in ENGLISH * 3 + NUMBERS + SCRIPTS[:12] for t in text.split("\n") if t]
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE = 1, 2
BYTES = [(f"<0x{i:02X}>", 0.0, BYTE) for i in range(256)]
META = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
RULES = "\n".join(f"{' '.join(f'{ord(c):X}' for c in a)}\t{' '.join(f'{ord(c):X}' for c in b)}" for a, b in [
    ("\u00a0", " "), ("\u3000", " "), ("\t", " "), ("\n", " "), ("\u200b", ""), ("\ufb01", "fi"), ("e\u0301", "\u00e9"),
    ("...", "\u2026"), ("..", "."), ("\u20ac", " EUR "), ("A", "a"), ("B", "b"), ("\u00df", "ss"), ("x  y", "z"), ("  ", "\u2581")])


def train(**more):
    """A trained model's bytes."""
    out = io.BytesIO()
    options = dict(vocab_size=240, hard_vocab_limit=False, character_coverage=0.98, normalization_rule_name="identity",
                   num_threads=1, minloglevel=2, input_sentence_size=0)
    options.update(more)
    spm.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS), model_writer=out, **options)
    return out.getvalue()


def varint(n):
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def field(number, value):
    """A field of a message: a number, a float or bytes."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def put_together(kind, pieces, trainer={}, normalizer={}):
    """A ModelProto: pieces are (text, score, type); the specs are {field number: value}."""
    out = b"".join(field(1, field(1, text.encode()) + field(2, float(score)) + field(3, t)) for text, score, t in pieces)
    out += field(2, field(3, kind) + b"".join(field(k, v) for k, v in trainer.items()))
    return out + field(3, b"".join(field(k, v) for k, v in normalizer.items()))


def drawn(alphabet, n, seed, score, types=(NORMAL,)):
    rng = random.Random(seed)
    texts = dict.fromkeys(list(alphabet) + ["".join(rng.choice(alphabet) for _ in range(rng.randrange(2, 6))) for _ in range(n)])
    return [(t, score(rng), rng.choice(types) if len(t) > 1 else NORMAL) for t in texts]


def joins(alphabet, n, seed, types):
    """Pieces of a BPE: each is two others, with scores that several share."""
    rng = random.Random(seed)
    texts = list(alphabet)
    while len(texts) < n:
        text = rng.choice(texts) + rng.choice(texts)
        if len(text) <= 8 and text not in texts:
            texts.append(text)
    return [(t, -float(i // 3) if i >= len(alphabet) else 0.0, rng.choice(types) if len(t) > 1 else NORMAL)
            for i, t in enumerate(texts)]


def all_models():
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with open("rules.tsv", "w") as f:  # the model keeps the name
            f.write(RULES + "\n")
        rules = dict(normalization_rule_tsv="rules.tsv")
        result = {
            "unigram": train(model_type="unigram"),
            "unigram-rules": train(model_type="unigram", **rules),
            "unigram-suffix": train(model_type="unigram", treat_whitespace_as_suffix=True),
            "unigram-bytes": train(model_type="unigram", byte_fallback=True, vocab_size=480),
            "unigram-spaces": train(model_type="unigram", remove_extra_whitespaces=False, add_dummy_prefix=False),
            "unigram-user": train(model_type="unigram", user_defined_symbols=["<sep>", "the", " x ", "  ", "\u65e5\u672c"],
                                  control_symbols=["<ctl>"], unk_surface="?!", **rules),
            "bpe": train(model_type="bpe"),
            "bpe-rules": train(model_type="bpe", **rules),
            "bpe-suffix": train(model_type="bpe", treat_whitespace_as_suffix=True),
            "bpe-bytes": train(model_type="bpe", byte_fallback=True, vocab_size=480, split_digits=True),
            "bpe-spaces": train(model_type="bpe", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True),
            "bpe-user": train(model_type="bpe", user_defined_symbols=["<sep>", "the", "th", "\u65e5\u672c", "\u2581\u2581"],
                              control_symbols=["<ctl>"], byte_fallback=True, vocab_size=480),
        }
    space = "\u2581"
    result.update({
        "unigram-ties": put_together(UNIGRAM, META + drawn("abc" + space, 60, 1, lambda r: -float(r.randrange(1, 4)))),
        "unigram-far": put_together(UNIGRAM, META + drawn("abc" + space, 60, 2, lambda r: r.uniform(-30000, -9000))),
        "unigram-positive": put_together(UNIGRAM, META + drawn("ab" + space, 40, 3, lambda r: r.uniform(1000, 30000))),
        "unigram-types": put_together(UNIGRAM, META + drawn("abc" + space, 80, 4, lambda r: r.uniform(-9, -1), (NORMAL, USER, UNUSED))),
        "unigram-names": put_together(UNIGRAM, META + [("<s>", -3.0, NORMAL), ("<unk>", -2.0, UNUSED)] + drawn("<>s/unk", 30, 5, lambda r: r.uniform(-9, -1))),
        "unigram-only-bytes": put_together(UNIGRAM, BYTES + drawn("ab", 9, 6, lambda r: r.uniform(-9, -1)), {35: 1}),
        "bpe-types": put_together(BPE, META + joins("abc" + space, 90, 7, (NORMAL, UNUSED, UNUSED))),
        "bpe-ties": put_together(BPE, META + joins("ab" + space, 60, 8, (NORMAL,))),
        "bpe-all-types": put_together(BPE, META + joins("abc" + space, 90, 9, (NORMAL, NORMAL, UNUSED, CONTROL, USER))),
        "bpe-no-escape": put_together(BPE, META + joins("abc ", 60, 10, (NORMAL,)), {}, {5: 0}),
        "bpe-nothing": put_together(BPE, META + BYTES + [("\0", -1.0, NORMAL)] + joins("ab" + space, 30, 11, (NORMAL,)), {35: 1}, {3: 0, 4: 0}),
        "unigram-bare": put_together(UNIGRAM, META + drawn("abc ", 60, 12, lambda r: r.uniform(-9, -1)), {24: 1, 44: "\u2047".encode()}, {4: 0, 5: 0}),
    })
    return result


def texts(pieces, rng):
    """Texts for everyone, and texts of the model's own pieces."""
    own = [p.replace("\u2581", " ") for p in pieces if not p.startswith("<0x")]
    chars = sorted({c for p in own for c in p})
    result = ["", " ", "  ", " a", "a ", "  a  b  ", "\u2581", "a\u2581b", " \u2581 ", "<unk>", "<s>a</s>", "<0x41>", "<sep>a <sep>", "x  y",
              "....", "\ufb01x\u20ac\u00df", "\t\n\u3000 \u00a0", "a\u200b b", "the\u65e5\u672c the", "\0", "a\0b", "\ufffd", "\U0001f600\U0001f600 \U0001f600"]
    result += ENGLISH[:6] + SCRIPTS[::7] + SPACES[::6] + EMOJI[::5] + MARKS[::5]
    for _ in range(30):
        result.append("".join(rng.choice(own) for _ in range(rng.randrange(1, 9))))
        result.append("".join(rng.choice(chars) for _ in range(rng.randrange(1, 16))))
        result.append("".join(rng.choice(own + [" ", "  ", "\u00e9", "\u65e5", "\U0001f600", "..", "A", "\t"]) for _ in range(rng.randrange(1, 9))))
    result.append("".join(rng.choice(chars) for _ in range(400)))
    return list(dict.fromkeys(result))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    lines = []
    for name, model in all_models().items():
        with open(os.path.join(OUT, name + ".model"), "wb") as f:
            f.write(model)
        sp = spm.SentencePieceProcessor(model_proto=model)
        rng, cases = random.Random(name), []
        for text in texts([sp.id_to_piece(i) for i in range(sp.get_piece_size())], rng):
            ids = sp.encode(text)
            places = sp.encode(text.encode(), return_type="offset_mapping")
            assert ids == places["ids"]
            cases.append([text, [[i, *p] for i, p in zip(ids, places["offsets"])], sp.decode(ids)])
        loose = [[rng.randrange(sp.get_piece_size()) for _ in range(1 + i % 9)] for i in range(30)]
        lines.append(f"{json.dumps(name)}: {{\"cases\": [\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) +
                     "],\n\"decode\": [\n" + ",\n".join(json.dumps([ids, sp.decode(ids)], separators=(",", ":")) for ids in loose) + "]}")
    with open(os.path.join(OUT, "texts.json"), "w") as f:
        f.write(json.dumps({"reference": {"sentencepiece": spm.__version__}})[:-1] + ',\n"models": {\n' + ",\n".join(lines) + "}}\n")
    print(f"{len(lines)} models")


if __name__ == "__main__":
    main()
