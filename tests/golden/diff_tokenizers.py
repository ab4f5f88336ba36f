#!/usr/bin/env python3
"""Puts components, or texts, together at random and compares tern with the tokenizers library; keeps nothing.

    build/golden-env/bin/python tests/golden/diff_tokenizers.py FOLDER SEED COUNT
    build/golden-env/bin/python tests/golden/diff_tokenizers.py --texts FOLDER SEED COUNT
    TERN_TOKENIZERS_DIR=FOLDER build/release/tests/text/test_tokenizer_goldens

The first writes COUNT tokenizers and their digests (make_tokenizers.py) into FOLDER, less those that the library refuses
or panics on; the second takes the tokenizers that are committed, and those of ../shared/data, with COUNT texts made of
what they know: tokens, added tokens, and characters that rules are about.  The third compares.  What differs goes into
make_tokenizers.py, or nasty.py.
"""
import json
import os
import random
import shutil
import sys

import make_tokenizers as made
from make_tokenizers import D, N, P, X, part
from tokenizers import Regex, Tokenizer

PATTERNS = [r"\s+", r"[aeiou]", r"\p{L}+", r"\d", r"(?=n)|x", r"^.", r".$", r"\w+|[^\w\s]+", r"[^\s]", r"e\b", "\u0301", r"(?i:t)h?",
            r"\p{M}+", r" {2,}", r"o*"]
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.rules = made.charsmap()
        bare = made.bpe(unk_token="<unk>")
        self.models = [
            (made.byte_bpe(), "</s>"), (made.unigram(), "</s>"), (made.unigram(bytes_=True), "<s>"),
            (made.wordpiece(pre=P.BertPreTokenizer()), "[SEP]"), (made.word_level(pre=P.Whitespace()), "|"),
            (made.bpe(special=("<unk>", "<s>", "</s>"), bytes_=True, unk_token="<unk>", fuse_unk=True), "<s>"), (bare, "<unk>"),
            (made.letters(), "<unk>"), (made.bpe(unk_token="<unk>", end_of_word_suffix="</w>"), "<unk>")]

    def coin(self, chance=0.5):
        return self.random.random() < chance

    def pattern(self):
        choice = self.random.choice
        return Regex(choice(PATTERNS)) if self.coin(0.7) else choice([" ", "a", "the", "\u2581", "e\u0301", "", "."])

    def normalizer(self):
        choice, coin = self.random.choice, self.coin
        return choice([
            lambda: N.NFC(), lambda: N.NFD(), lambda: N.NFKC(), lambda: N.NFKD(), lambda: N.Nmt(), lambda: N.Lowercase(),
            lambda: N.StripAccents(), lambda: N.Strip(coin(), coin()),
            lambda: N.BertNormalizer(coin(), coin(), choice([None, True, False]), coin()),
            lambda: N.Replace(self.pattern(), choice(["", "x", "ab", "\u2581", " \u00e9"])), lambda: N.Replace(" ", "\u2581"),
            lambda: N.Prepend(choice(["\u2581", "ab", "", "\u00e9 "])), lambda: self.rules, lambda: N.ByteLevel()])()

    def pre_tokenizer(self):
        choice, coin = self.random.choice, self.coin
        return choice([
            lambda: P.ByteLevel(coin(), use_regex=coin(0.6)), lambda: P.BertPreTokenizer(), lambda: P.Whitespace(),
            lambda: P.Metaspace(prepend_scheme=choice(["always", "first", "never"]), split=coin(0.6)), lambda: P.Digits(coin()),
            lambda: P.Split(self.pattern(), choice(BEHAVIORS), coin(0.3)), lambda: P.Split(self.pattern(), choice(BEHAVIORS), False),
            lambda: P.Punctuation(choice(BEHAVIORS)), lambda: P.WhitespaceSplit(), lambda: P.CharDelimiterSplit(choice(" e\u2581x")),
            lambda: P.UnicodeScripts(), lambda: P.FixedLength(self.random.randrange(1, 5))])()

    def post_processor(self, token, number):
        choice, coin = self.random.choice, self.coin
        both = (token, number)
        return choice([
            lambda: X.ByteLevel(trim_offsets=coin(0.7), add_prefix_space=coin()), lambda: X.RobertaProcessing(both, both, coin(), coin()),
            lambda: X.BertProcessing(both, both),
            lambda: X.TemplateProcessing(single=choice(["$A", "S $A S", "$A:2 S:3", "S"]),
                                         pair=choice(["$A $B", "S $A S $B:1", "$B:1 S:1 $A"]), special_tokens=[("S", number)])])()

    def decoder(self):
        choice, coin = self.random.choice, self.coin
        return choice([
            lambda: D.ByteLevel(), lambda: D.WordPiece(choice(["##", "e"]), coin()), lambda: D.ByteFallback(), lambda: D.Fuse(),
            lambda: D.Metaspace(prepend_scheme=choice(["always", "never"])), lambda: D.BPEDecoder(choice(["</w>", "e"])),
            lambda: D.CTC(choice(["<pad>", "e"]), choice(["|", "t"]), coin()),
            lambda: D.Strip(choice(" e\u2581"), self.random.randrange(3), 0),
            lambda: D.Replace(self.pattern(), choice(["", "x ", " "]))])()

    def sequence(self, make, key, most):
        parts = [part(make()) for _ in range(self.random.randrange(most + 1))]
        return None if not parts else parts[0] if len(parts) == 1 else {"type": "Sequence", key: parts}

    def tokenizer(self):
        choice, coin = self.random.choice, self.coin
        model, token = choice(self.models)
        vocab = model["vocab"]
        number = vocab[token] if isinstance(vocab, dict) else [t for t, _ in vocab].index(token)
        limits = made.limits(choice([6, 9, 20]), choice(["LongestFirst", "LongestFirst", "OnlyFirst", "OnlySecond"]), 0,
                             choice(["Left", "Right"]))
        pads = made.pads(choice(["BatchLongest", {"Fixed": 10}]), choice([None, 4]), choice(["Left", "Right"]), 0, 1)
        return made.make(model, self.sequence(self.normalizer, "normalizers", 3), self.sequence(self.pre_tokenizer, "pretokenizers", 3),
                         self.sequence(lambda: self.post_processor(token, number), "processors", 2),
                         self.sequence(self.decoder, "decoders", 3), made.special(token) + [dict(z) for z in made.ZOO if coin(0.4)],
                         limits if coin(0.3) else None, pads if coin(0.3) else None)


# What rules are about: blanks, marks, controls, ends of lines, one character of many bytes, characters that become many or none.
ODD = ["", " ", "  ", "\t", "\n", "\r\n", "\0", "\x1f", "\x7f", "\x85", "\xa0", "\u2581", "\u2009", "\u3000", "\u200b", "\u200d", "\ufeff", "\ufffd",
       "\u0130", "\u0131", "\u1e9e", "\u017f", "\u0345", "\u0301", "\u0327\u0301", "\u3099", "\u1161", "\u11a8", "\uac00", "\ufdfa", "\u0149", "\u01c5",
       "\U0001f600", "\U0001f468\u200d\U0001f469", "\U0001f1e6\U0001f1fa", "\U0002f800", "\U00020000", "\U000e0001", "\U0010ffff", "\ue000", "\u0378",
       "'s", "'LL", "'", "\u2019t", "I'm", "123", "\u0664", "\u00b2", "\u2167", "-", "\u2014", "...", "\u3001", "$", "\u00e9", "e\u0301", "\u0e33", "\u0dca",
       "a", "B", "x", "</w>", "##", "<0x41>", "<unk", ">", "\u0120", "\u0100"]


def odd_text(rng, tokens, added):
    parts = []
    for _ in range(rng.below(9)):
        kind = rng.below(8)
        if kind < 3:
            parts.append(ODD[rng.below(len(ODD))])
        elif kind < 6 or not added:
            parts.append(tokens[rng.below(len(tokens))])
        else:
            token = added[rng.below(len(added))]
            parts.append((token, token.upper(), token[:-1], " " + token, token + " ", token * 2)[rng.below(6)])
    return "".join(parts)


def all_tokenizers():
    for name in made.table():
        yield name, os.path.join(made.OUT, name + ".json")
    for name in made.SHARED_NAMES:
        file = os.path.join(made.SHARED, "tokenizers", name)
        if os.path.exists(file):
            yield name.replace("/", "-")[:-5], file


def texts(folder, seed, count):
    """A folder for each tokenizer, since the texts are made of its tokens."""
    for name, file in all_tokenizers():
        tok, rng = Tokenizer.from_file(file), made.Random(seed)
        here = os.path.join(folder, name)
        os.makedirs(here, exist_ok=True)
        shutil.copy(os.path.join(made.OUT, "assigned13.txt"), here)
        shutil.copy(file, os.path.join(here, name + ".json"))
        tokens = sorted(tok.get_vocab(False))
        added = sorted(t.content for t in tok.get_added_tokens_decoder().values())
        made.NASTY = [odd_text(rng, tokens, added) for _ in range(count)]
        made.MARKS = [100]
        with open(os.path.join(here, "nasty.json"), "w") as f:
            json.dump(made.NASTY, f)
        with open(os.path.join(here, "digests.json"), "w") as f:
            json.dump({name: made.digests(tok)}, f)
        print(name, flush=True)


def main(folder, seed, count):
    os.makedirs(folder, exist_ok=True)
    for name in ("nasty.json", "assigned13.txt"):
        shutil.copy(os.path.join(made.OUT, name), folder)
    made.MARKS = [100, 300]
    maker, kept = Maker(seed), {}
    for i in range(count):
        text, name = json.dumps(maker.tokenizer(), ensure_ascii=False), f"{seed}-{i}"
        try:
            kept[name] = made.digests(Tokenizer.from_str(text))
        except KeyboardInterrupt:
            raise
        except BaseException:  # the library refuses it, or panics
            continue
        with open(os.path.join(folder, name + ".json"), "w") as f:
            f.write(text)
    with open(os.path.join(folder, "digests.json"), "w") as f:
        json.dump(kept, f)
    print(len(kept), "of", count)


if __name__ == "__main__":
    with_texts = sys.argv[1] == "--texts"
    arguments = sys.argv[2:] if with_texts else sys.argv[1:]
    (texts if with_texts else main)(arguments[0], int(arguments[1]), int(arguments[2]))
