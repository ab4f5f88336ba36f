#!/usr/bin/env python3
"""Makes src/text/character_tables.c: what the tokenizers library's crates know of characters, asked from the library.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tools/make_character_tables.py

Each crate of the library has tables of its own, of different versions of Unicode, so that no one library of C agrees
with all of them.  Asking about every code point gives exactly what it does.  With --differences it prints, for
docs/numerics.md, where each table departs from Python's unicodedata over the code points assigned in Unicode 13.
"""
import sys
import unicodedata

import tokenizers
from tokenizers import normalizers, pre_tokenizers

assert tokenizers.__version__ == "0.23.3"
OUT = "src/text/character_tables.c"
CODES = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def ranges(codes):
    out = []
    for c in sorted(codes):
        if out and (out[-1][1] == c - 1 or (out[-1][1] == 0xD7FF and c == 0xE000)):
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def kept(normalizer):
    """Code points that a normalizer leaves between two letters."""
    return {c for c in CODES if len(normalizer.normalize_str("a" + chr(c) + "a")) > 2}


def split_at(pre):
    """Code points at which a word is cut."""
    return {c for c in CODES if len(pre.pre_tokenize_str("a" + chr(c) + "a")) > 1}


def scripts():
    pre = pre_tokenizers.UnicodeScripts()

    def cut(a, b):
        return len(pre.pre_tokenize_str(a + b)) > 1

    common = {c for c in CODES if not cut("a", chr(c)) and not cut("\u03b1", chr(c))}
    table, known = [], []
    for c in CODES:
        if c in common:
            continue
        ch = chr(c)
        if table and table[-1][1] == c - 1 and not cut(chr(c - 1), ch):
            table[-1][1] = c
            continue
        for i, representative in enumerate(known):
            if not cut(representative, ch):
                break
        else:
            i = len(known)
            known.append(ch)
        table.append([c, c, i + 1])
    return table, len(known)


def tables():
    bert_clean = kept(normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False))
    punctuation = split_at(pre_tokenizers.Punctuation())
    marks = set(CODES) - kept(normalizers.StripAccents())
    # asked behind the NFD that comes first: what decomposes never gets to the question
    nfd = normalizers.NFD()
    bert_strip = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    nonspacing = {c for c in CODES if nfd.normalize_str(chr(c)) == chr(c) and bert_strip.normalize_str("a" + chr(c)) == "a"}
    others = set(CODES) - bert_clean - {0, 0xFFFD}
    return {
        "other": (others, "Cc, Cf and Co, of the crate unicode_categories"),
        "punctuation": (punctuation, "P and ASCII's, of unicode_categories"),
        "mark": (marks, "M, of unicode-normalization-alignments"),
        "nonspacing": (nonspacing, "Mn, of unicode_categories"),
    }


def assigned():
    with open("tests/golden/tokenizers/assigned13.txt") as f:
        pairs = [line.split() for line in f if not line.startswith("#")]
    return {c for a, b in pairs for c in range(int(a, 16), int(b, 16) + 1)}


def show(codes):
    return ", ".join("U+%04X" % a if a == b else "U+%04X..%04X" % (a, b) for a, b in ranges(codes))


def differences(found):
    category = unicodedata.category
    general = {
        "other": lambda c: category(chr(c)) in ("Cc", "Cf", "Co") and c not in (0, 9, 10, 13),
        "punctuation": lambda c: category(chr(c))[0] == "P" or (c < 128 and category(chr(c))[0] == "S"),
        "mark": lambda c: category(chr(c))[0] == "M",
        "nonspacing": lambda c: category(chr(c)) == "Mn" and unicodedata.normalize("NFD", chr(c)) == chr(c),
    }
    codes = assigned()
    for name, is_one in general.items():
        print(name, "lacks", show(c for c in codes if is_one(c) and c not in found[name][0]))
        print(name, "has", show(c for c in codes if not is_one(c) and c in found[name][0]))


def write(found):
    table, count = scripts()
    lines = [
        "/* character_tables.c: made by tools/make_character_tables.py from tokenizers %s; not edited by hand. */"
        % tokenizers.__version__,
        '#include "text/character_tables.h"',
        "",
        "/* clang-format off */",
    ]

    def array(declaration, rows):
        lines.append("%s = {" % declaration)
        line = "   "
        for row in rows:
            if len(line) + len(row) > 118:
                lines.append(line)
                line = "   "
            line += " " + row + ","
        lines.extend([line, "};", ""])

    for name, (codes, about) in found.items():
        rows = ["{ 0x%X, 0x%X }" % (a, b) for a, b in ranges(codes)]
        lines.append("/* %s */" % about)
        array("const struct tern_code_range tern_chars_%s[]" % name, rows)
        lines.append("const size_t tern_n_chars_%s = %d;" % (name, len(rows)))
        lines.append("")
    lines.append("/* %d scripts, numbered as they come */" % count)
    array("const struct tern_code_range tern_chars_scripts[]", ["{ 0x%X, 0x%X }" % (a, b) for a, b, _ in table])
    array("const uint8_t tern_chars_script[]", ["%d" % i for _, _, i in table])
    lines.append("const size_t tern_n_chars_scripts = %d;" % len(table))
    with open(OUT, "w") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    FOUND = tables()
    if "--differences" in sys.argv:
        differences(FOUND)
    else:
        write(FOUND)
