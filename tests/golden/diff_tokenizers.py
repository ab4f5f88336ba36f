#!/usr/bin/env python3
"""Puts components together at random and compares tern with the tokenizers library; keeps nothing.

    build/golden-env/bin/python tests/golden/diff_tokenizers.py FOLDER SEED COUNT
    TERN_TOKENIZERS_DIR=FOLDER build/release/tests/text/test_tokenizer_goldens

The first writes COUNT tokenizers and their digests (make_tokenizers.py) into FOLDER, less those that the library refuses
or panics on; the second compares.  What differs goes into make_tokenizers.py.
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
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
