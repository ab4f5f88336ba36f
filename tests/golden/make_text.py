#!/usr/bin/env python3
"""Makes text/: small byte-level BPE tokenizers, and text.json, what tokenizers and transformers make of many texts.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_text.py

The vocabularies are trained on the texts below.  The reference of a tokenizer.json is the tokenizers library; that of
a directory with only vocab.json and merges.txt is transformers' GPT2Tokenizer.
"""
import json
import os
import random
import shutil

import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "text")
ROOT = os.path.dirname(os.path.dirname(HERE))
EOT = "<|endoftext|>"

ENGLISH = [
    "", "a", " ", "Hello, world!", "The quick brown fox jumps over the lazy dog.",
    "It was a bright cold day, and the harbour was full of small white birds.",
    "the terns came back to the island in the spring, and the fishermen counted them",
    "There is nothing in the world that the sea does not, in the end, return.",
    "She said: \"No more of that, please\" -- and closed the book (for good).",
    "A list: one, two, three; four? five! six... seven.", "e.g. the U.S.A., i.e. Mr. Smith's house, No. 12b",
    "ALL CAPITALS AND THEN some, CamelCaseWords and snake_case_words, kebab-case-words",
    "for (int i = 0; i < n; i++) {\n\tsum += a[i] * b[i];\n}\n", "#include <stdio.h>\n\nint main(void)\n{\n    return 0;\n}\n",
    "https://www.example.org/path/to/file.html?q=tern&lang=en#top", "name.surname+tag@example.com",
    "{\"key\": [1, 2.5, -3e10, null, true], \"other\": \"va\\\"lue\"}", "<p class=\"x\">text &amp; more</p>",
    "SELECT * FROM birds WHERE name = 'tern' AND size > 10;", "$HOME/bin:$PATH; rm -rf \"$TMP\"/*",
    "C:\\Users\\tern\\Documents", "100% of 50,000.00 is $50,000 or 45.000,50 \u20ac", "a=b+c-d*e/f%g^h|i&j~k",
    "x\u00b2 + y\u00b3 = z\u207f, \u00bd + \u00bc = \u00be, \u2167 is 8, \u2460\u2461\u2462, \u3007", "supercalifragilisticexpialidocious",
]
CONTRACTIONS = [
    "I'm, you're, he's, she'd, we'll, they've, don't", "I'M, YOU'RE, HE'S, SHE'D, WE'LL, THEY'VE, DON'T",
    "I'm YOU'Re he'S she'D We'lL they'Ve doN'T", "'s 't 're 've 'm 'll 'd", "'S 'T 'RE 'VE 'M 'LL 'D",
    "it''s ''s '''s 's's", "rock'n'roll o'clock 'tis 'twas ma'am y'all'd've", "I\u2019m you\u2019re he\u2019s don\u2019t",
    "'ssss 'tttt 'really 'very 'more 'llama 'dog", " 's  's   's\n's\t's", "the dogs' 's bones'", "1's 2'll 3'd 'x", "'", "''", "' '",
    "\u00e9's \u65e5's \u0661's", "'\u017f 'ſ's",
]
NUMBERS = [
    "0 1 12 123 1234 12345 123456 1234567890", "3.14159265358979", "1,000,000", "-42 +42 \u221242", "0xDEADBEEF 0b1010 1e-5",
    "2024-02-29T23:59:59Z", "192.168.0.1:8080", "1st 2nd 3rd 4th", "a1b2c3 4d5e6f", "\u0661\u0662\u0663 \u0967\u0968\u0969 \uff11\uff12\uff13 \u4e00\u4e8c\u4e09",
    "\U0001d7d8\U0001d7d9\U0001d7da \U0001f100 \u2153", "99999999999999999999999999999999999999999999999999",
]
SPACES = [
    "  ", "   ", "    x", "x    ", "x  y   z    w", "\t", "\t\t", "\tx", "x\t", "x\ty\t\tz", " \t \t x", "\n", "\n\n", "\n\n\n", "x\n", "x\ny",
    "x\n\ny", "x\n\n\ny", "x \n y", "x  \n  y", "\r\n", "x\r\ny", "x\r\n\r\ny\r\n", "x\ry\r\rz", "x \r\n\t y", "\n x", " \nx", "\u00a0", "\u00a0x",
    "x\u00a0y", "x\u00a0\u00a0y", "x \u00a0y", "x\u00a0 y", "x  \u00a0  y", "x\u3000y\u3000\u3000z", "x\u2003\u2009y", "x\u202fy \u205f z", "x\u1680y",
    "x\u0085y", "x\u0085\u0085y", "x \u0085 y", "x\u2028y", "x\u2028\u2028 y", "x\u2029y", "\ufeffx", "x\ufeffy", "\ufeff", "x\u200by", "x \u200b y",
    "x\u2060y", "x\u180ey", "x\u000by\u000cz", "x \u000b\u000c y", "x\u001cy \u001d z\u001e\u001fw", "    if x:\n        return y\n\n    else:\n\t\tpass\n",
    "trailing   ", "   leading", " both ", "x" + " " * 17 + "y", " " * 33, "\t" * 9 + "x", "\n" * 12, "x \t\n\r\u000b\u000c\u0085\u00a0y",
]
CONTROLS = [
    "\u0000", "a\u0000b", "\u0000\u0000 \u0000", "\u0001\u0002\u0003\u0004\u0005\u0006\u0007\u0008", "\u000e\u000f\u0010\u0011\u0012\u0013\u0014",
    "\u0015\u0016\u0017\u0018\u0019\u001a\u001b", "\u001b[1;31mred\u001b[0m", "\u007f a\u007f", "\u0080\u0081\u0084\u0086\u009f", "a\u00adb \u00ad",
    "\ufffd\ufffd \ufffd", "\ufffe\uffff", "\U0010ffff \U0010fffe", "\ue000\uf8ff \U000f0000", "\u200e\u200f\u202a\u202e\u2066\u2069", "\u061c\u200c\u200d",
]
SCRIPTS = [
    "Franz jagt im komplett verwahrlosten Taxi quer durch Bayern; Stra\u00dfe, \u00dcbergr\u00f6\u00dfe",
    "Voix ambigu\u00eb d'un c\u0153ur qui, au z\u00e9phyr, pr\u00e9f\u00e8re les jattes de kiwis. L'\u00e9t\u00e9, c'est l\u00e0!",
    "El ping\u00fcino Wenceslao hizo kil\u00f3metros bajo exhaustiva lluvia \u00bfy fr\u00edo?",
    "P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148 \u00fap\u011bl \u010f\u00e1belsk\u00e9 \u00f3dy", "Pchn\u0105\u0107 w t\u0119 \u0142\u00f3d\u017a je\u017ca lub o\u015bm skrzy\u0144 fig",
    "\u0130stanbul'da \u0131l\u0131k bir g\u00fcn, \u015fi\u015f \u00e7ay \u0131\u0130iI", "Ti\u1ebfng Vi\u1ec7t c\u00f3 nhi\u1ec1u d\u1ea5u thanh",
    "\u0421\u044a\u0435\u0448\u044c \u0436\u0435 \u0435\u0449\u0451 \u044d\u0442\u0438\u0445 \u043c\u044f\u0433\u043a\u0438\u0445 \u0444\u0440\u0430\u043d\u0446\u0443\u0437\u0441\u043a\u0438\u0445 \u0431\u0443\u043b\u043e\u043a, \u0434\u0430 \u0432\u044b\u043f\u0435\u0439 \u0447\u0430\u044e", "\u0429\u0430\u0441\u0442\u044f \u0457\u0436\u0430\u043a\u0430, \u0491\u0430\u043d\u043e\u043a, \u043f'\u044f\u0442\u044c",
    "\u039e\u03b5\u03c3\u03ba\u03b5\u03c0\u03ac\u03b6\u03c9 \u03c4\u1f74\u03bd \u03c8\u03c5\u03c7\u03bf\u03c6\u03b8\u03cc\u03c1\u03b1 \u03b2\u03b4\u03b5\u03bb\u03c5\u03b3\u03bc\u03af\u03b1", "\u0540\u0561\u0575\u0565\u0580\u0565\u0576 \u0561\u0575\u0562\u0578\u0582\u0562\u0565\u0576\u0589", "\u10e5\u10d0\u10e0\u10d7\u10e3\u10da\u10d8 \u10d0\u10dc\u10d1\u10d0\u10dc\u10d8",
    "\u05d3\u05d2 \u05e1\u05e7\u05e8\u05df \u05e9\u05d8 \u05d1\u05d9\u05dd \u05de\u05d0\u05d5\u05db\u05d6\u05d1, \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\u0646\u0635 \u062d\u0643\u064a\u0645 \u0644\u0647 \u0633\u0631 \u0642\u0627\u0637\u0639\u060c \u0627\u0644\u0633\u0651\u064e\u0644\u0627\u0645\u064f \u0662\u0660\u0662\u0664",
    "\u0641\u0627\u0631\u0633\u06cc \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0905\u0928\u0941\u091a\u094d\u091b\u0947\u0926 \u0967: \u0938\u092d\u0940 \u092e\u0928\u0941\u0937\u094d\u092f\u094b\u0902 \u0915\u094b \u0915\u094d\u0937", "\u09ac\u09be\u0982\u09b2\u09be \u09b2\u09bf\u09aa\u09bf\u0964 \u09e7\u09e8\u09e9",
    "\u0a2a\u0a70\u0a1c\u0a3e\u0a2c\u0a40 \u0a17\u0a41\u0a30\u0a2e\u0a41\u0a16\u0a40", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0b8e\u0bb4\u0bc1\u0ba4\u0bcd\u0ba4\u0bc1", "\u0c24\u0c46\u0c32\u0c41\u0c17\u0c41 \u0c32\u0c3f\u0c2a\u0c3f", "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22\u0e40\u0e02\u0e35\u0e22\u0e19\u0e15\u0e34\u0e14\u0e01\u0e31\u0e19 \u0e51\u0e52\u0e53",
    "\u1019\u103c\u1014\u103a\u1019\u102c\u1018\u102c\u101e\u102c", "\u1797\u17b6\u179f\u17b6\u1781\u17d2\u1798\u17c2\u179a", "\u0f56\u0f7c\u0f51\u0f0b\u0f66\u0f90\u0f51\u0f0d \u0f21\u0f22", "\u12a0\u121b\u122d\u129b \u134a\u12f0\u120d\u1362 \u1369\u136a", "\u13e3\u13b3\u13a9 \u13a6\u13ec\u13c2",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u6d77\u8fb9\u770b\u71d5\u9e25\u3002", "\u7e41\u9ad4\u4e2d\u6587\u6e2c\u8a66\u300c\u5f15\u865f\u300d\uff01", "\u3044\u308d\u306f\u306b\u307b\u3078\u3068\u3001\u30ab\u30bf\u30ab\u30ca\u30fc\u3068\u6f22\u5b57\u3082\u3002", "\u30ac\u30ae\u30b0 \uff76\uff9e\uff77\uff9e \u304b\u3099",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc744 \uc2dc\ud5d8\ud569\ub2c8\ub2e4.", "\u1112\u1161\u11ab\u1100\u1173\u11af", "\U00010330\U00010331 \U00012000\U00012001 \U00013000 \U00020000\U0002a6d6", "\U0001d504\U0001d505 \U0001d4ea\U0001d4eb \uff21\uff22\uff43",
    "\u1820\u182d \u07ca\u07cb \u2d30\u2d31 \ua4d0\ua4d1 \u1401\u1403", "\u02b0\u02b1 \u00aa\u00ba \u01c5 \u2160 \u24b6 \u0345", "\u2c60\ua722 \U0001e900\U0001e922",
]
EMOJI = [
    "\U0001f600", "\U0001f600\U0001f601\U0001f602", "hi \U0001f44b\U0001f3fd!", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family", "\U0001f3f3\ufe0f\u200d\U0001f308",
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "1\ufe0f\u20e3 #\ufe0f\u20e3", "\u2764\ufe0f \u2764 \u2603", "\U0001f9d1\U0001f3ff\u200d\U0001f692", "a\U0001f600b \U0001f600 1\U0001f6002",
    "\u2192 \u2200x\u2208\u211d: \u221ax\u00b2=|x|", "\u2014 \u2013 \u2026 \u201c\u201d \u00ab\u00bb \u2022 \u00a9\u00ae\u2122", "\u250c\u2500\u2510\u2502\u2588\u2591", "\u20ac\u00a3\u00a5\u20bd\u20bf",
]
MARKS = [
    "e\u0301 \u00e9", "cafe\u0301 caf\u00e9", "\u0301", " \u0301", "\u0301\u0302\u0303", "a \u0308b", "a\u0300\u0301\u0302\u0303\u0304\u0305b", "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033dA\u0334\u0319L\u035fGO",
    "\u0e33 \u0e4d\u0e32", "\u0928\u093f \u0928\u093c\u093f", "\u20d7x\u20d7", "\ufe0f \ufe0fx", "q\u0307\u0323 q\u0323\u0307", "\u212b \u00c5 A\u030a", "\ufb01 \ufb03 \u0132", "\u1100\u1161\u11a8",
]
LONG = [
    "a" * 300, "ab" * 200, "the" * 120, "\u00e9" * 100, "\U0001f600" * 60, "!" * 150, "1" * 200, "Donaudampfschifffahrtsgesellschaftskapit\u00e4n" * 4,
    "lo" + "o" * 150 + "ng", "xyz" * 100 + " " + "zyx" * 100, "-" * 80 + "\n" + "=" * 80, "aA1!" * 60, " a" * 100, "a " * 100,
]
ADDED = [
    "<|endoftext|>", "<|endoftext|><|endoftext|>", "a<|endoftext|>b", "a <|endoftext|> b", " <|endoftext|>", "<|endoftext|> ", "<|endoftext|", "|endoftext|>",
    "<|endoftext|>the end<|endoftext|>\n", "<<|endoftext|>>", "<|ENDOFTEXT|>", "<mask>", "a <mask> b", "a   <mask>   b", "a\t\n<mask>\u00a0b", "x\u0085\u2028<mask>", "  <mask>", "<mask>  <mask>",
    "<sep>", "a <sep> b", "a   <sep>   b", "<sep>\n\n x", "<sep>   ", "<sep> <sep>", "a<sep>\u3000b", "<both>", "a  <both>  b", "  <both>  ", "\n<both>\t<both>\n", "a<both>b", "<mask> <sep> <both>",
    "<sep> <mask>", "<both><mask>  <sep>", "<cls>", "a<cls>", "a <cls> b", "<cls>a", "_<cls>_", "1<cls>", "\u00e9<cls> \u00e9", ".<cls>.", "<cls><cls>", "<cls> <cls>", "\u0301<cls>\u0301", "x <cls>y",
    "tern", "a tern flies", "terns", "eastern tern", "western", "Tern", "tern's", "tern_tern", "tern-tern tern.", "(tern)", "tern1", "\u00e9tern", "tern\u00e9", "tern tern", "ternerntern", "tern\u0301 tern\u200dx",
    "[TOOL]", "[TOOL", "[TOOL_CALL]", "[TOOL][TOOL_CALL]", "x[TOOL]y[TOOL_CALL]z", "[A]", "[A][B]", "[B]", "[A][A][B][B]", "x [A] [B] y", "[A[A]",
    "ab", "abc", "bcd", "abcd", "abcde", "xabcdx", "ababc", "bcdbcd", "abbcd", "a b c d ab cd", "abc\u00e9bcd", "na\u00efve", "a na\u00efve  idea", "nai\u0308ve", "NA\u00cfVE", "\u65e5\u672c", "\u65e5\u672c\u8a9e", "a \u65e5\u672c b", "a  \u65e5\u672c\u3002", "\u3000\u65e5\u672c\u3000",
    "x\u65e5\u672c", "the", "the the", " the", "other the", "The the\nthe", "<s>", "</s>", "<s>a</s>", "a <s> b </s>", "<pad><pad> a <pad>", "<s><s>", "<unused0>x<unused1>", "\u2581\u2581 \u2581", "\u0120the \u010a",
    "line<br>line<br>", "a<br> <br>b", "2 spaces:  and\n\nnewlines", "<mask><|endoftext|><sep>tern<both>[A][B]abc<cls>",
]
TEXTS = ENGLISH + CONTRACTIONS + NUMBERS + SPACES + CONTROLS + SCRIPTS + EMOJI + MARKS + LONG + ADDED


def train(size, special, prefix):
    """Common ground of all: GPT-2's pre-tokenizer and decoder, all 256 bytes, merges seen at least twice."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    corpus = ENGLISH * 4 + CONTRACTIONS + NUMBERS + SPACES + SCRIPTS + EMOJI
    tok.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tok


def folder(name):
    path = os.path.join(OUT, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def make_gpt2():
    """The layout of GPT-2's own file; then the same vocabulary as vocab.json and merges.txt."""
    tok = train(600, [EOT], False)
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.save(os.path.join(folder("gpt2"), "tokenizer.json"))
    tok.model.save(folder("gpt2-files"))


def make_added():
    """Every flag of an added token, tokens that overlap, a prefix space."""
    tok = train(560, [EOT], True)
    tok.post_processor = processors.ByteLevel(trim_offsets=True)
    tok.add_special_tokens([
        AddedToken("<mask>", lstrip=True, normalized=False), AddedToken("<sep>", rstrip=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=True), AddedToken("<cls>", single_word=True, normalized=False)])
    tok.add_tokens([
        AddedToken("tern", single_word=True), AddedToken("[TOOL]", normalized=False), AddedToken("[TOOL_CALL]", normalized=True),
        AddedToken("[A]", normalized=False), AddedToken("[A][B]", normalized=False), AddedToken("[B]", normalized=True),
        AddedToken("ab", normalized=True), AddedToken("abc", normalized=True), AddedToken("bcd", normalized=False),
        AddedToken("na\u00efve", lstrip=True, normalized=True),
        AddedToken("\u65e5\u672c", single_word=True, lstrip=True, rstrip=True, normalized=False),
        AddedToken("the", single_word=True, normalized=True),         # in the vocabulary already: keeps that id
        AddedToken("<br>", rstrip=True, single_word=True, normalized=True), AddedToken("\u2581\u2581", normalized=False)])
    tok.save(os.path.join(folder("added"), "tokenizer.json"))


def make_bos():
    """A post-processor that adds ids; merges as older files write them, one string each; runs of spaces as tokens."""
    tok = train(480, ["<s>", "</s>", "<pad>"], False)
    tok.add_tokens([AddedToken("  ", normalized=False), AddedToken("    ", normalized=False), AddedToken("\n\n", normalized=True)])
    tok.add_special_tokens([AddedToken(f"<unused{i}>", normalized=False) for i in range(3)])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1",
                                                       special_tokens=[("<s>", 0), ("</s>", 1)])
    value = json.loads(tok.to_str())
    value["model"]["merges"] = [" ".join(m) for m in value["model"]["merges"]]
    with open(os.path.join(folder("bos"), "tokenizer.json"), "w") as f:
        json.dump(value, f, ensure_ascii=False, indent=2)


def golden(path, encode, decode, n_ids):
    rng = random.Random(7)
    cases = []
    for i, text in enumerate(TEXTS):
        ids = encode(text, True)
        cases.append({"text": i, "ids": ids, "ids_no_special": encode(text, False), "decoded": decode(ids, False),
                      "decoded_skip_special": decode(ids, True)})
    # Ids in an order that no text has: pieces of characters become U+FFFD, one for each maximal wrong part.
    loose = [[rng.randrange(n_ids) for _ in range(1 + i % 12)] for i in range(40)]
    loose += [[rng.randrange(257) for _ in range(1 + i % 12)] for i in range(20)]
    return {"path": path, "vocab_size": n_ids, "cases": cases,
            "decode": [{"ids": x, "decoded": decode(x, False), "decoded_skip_special": decode(x, True)} for x in loose]}


def from_json(name, path):
    tok = Tokenizer.from_file(os.path.join(ROOT, path, "tokenizer.json"))
    return golden(path, lambda t, s: tok.encode(t, add_special_tokens=s).ids,
                  lambda i, s: tok.decode(i, skip_special_tokens=s), tok.get_vocab_size())


def from_pair(path):
    tok = transformers.GPT2Tokenizer.from_pretrained(os.path.join(ROOT, path))
    return golden(path, lambda t, s: tok.encode(t, add_special_tokens=s),
                  lambda i, s: tok.decode(i, skip_special_tokens=s, clean_up_tokenization_spaces=False), len(tok))


def main():
    assert len(set(TEXTS)) == len(TEXTS), [t for t in TEXTS if TEXTS.count(t) > 1]
    make_gpt2()
    make_added()
    make_bos()
    result = {name: from_json(name, path) for name, path in (
        ("gpt2", "tests/golden/text/gpt2"), ("added", "tests/golden/text/added"), ("bos", "tests/golden/text/bos"),
        ("builtin", "models/tiny-shakespeare"))}
    result["gpt2-files"] = from_pair("tests/golden/text/gpt2-files")
    with open(os.path.join(OUT, "text.json"), "w") as f:
        head = {"versions": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__}}
        f.write(json.dumps(head)[:-1] + ',\n"texts": [\n' + ",\n".join(map(json.dumps, TEXTS)) + '],\n"tokenizers": {')
        for i, (name, g) in enumerate(result.items()):
            rows = {k: g.pop(k) for k in ("cases", "decode")}
            f.write((",\n" if i else "\n") + json.dumps(name) + ": " + json.dumps(g)[:-1])
            for k, r in rows.items():
                f.write(f',\n"{k}": [\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in r) + "]")
            f.write("}")
        f.write("}}\n")
    print(f"{len(TEXTS)} texts, {len(result)} tokenizers")


if __name__ == "__main__":
    main()
