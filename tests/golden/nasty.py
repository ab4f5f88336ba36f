"""Texts that tokenizers stumble over, in 20 scripts and in none, in our own words."""

NASTY = [
    # nothing, and nearly nothing
    "", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u0000", "a", "\u0301", "\u2581", "\u0120", "\ufffd",
    # spaces around and between
    " a", "a ", "  a  b  ", "a\tb\nc\r\nd", "a\u00a0b\u2003c\u3000d", "a\u2028b\u2029c\u0085d", "\n\n  \n x", "x" + " " * 20 + "y", "a \u200b b\u2060c\u180ed",
    "\u2581a \u2581 b\u2581\u2581c", "\u0120a \u0120\u0120b", " \u0301 \u0301a",
    # plain words, numbers, punctuation
    "The tern dives, misses, and tries again.", "She won't; they'll, we've, I'M, Y'ALL'D'VE", "3.14159 1,000,000 1e-9 0x1F 12:30 2\u00b2 \u00bd \u2167 \u2460",
    "tern@example.org https://example.org/a_b?c=%20&d=[1]#e", "don 't do n't can 't 've 's 're 'm", "a.b.c...d?!?e--f__g//h\\i||j&&k", "#!$%&()*+,-./:;<=>?@[]^_`{|}~",
    "`` quoted '' and \"straight\"", "CamelCase snake_case SCREAMING kebab-case x1y2z3", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "antidisestablishmentarianism" * 5, "the of and to in the of and to in", "x|y|z e|e the|end", "nnn ooo xo xoo on no",
    # Latin with marks, both ways of writing, and what changes its length
    "caf\u00e9 cafe\u0301 CAF\u00c9 \u1e69 s\u0323\u0307 s\u0307\u0323 \u212b A\u030a", "\u0130stanbul \u0131\u0130iI \u0130X I\u0307", "Stra\u00dfe STRASSE \u1e9e \ufb00\ufb01\ufb02\ufb03\ufb04 \u01c4\u01c5\u01c6 \u0149",
    "\u1e9b\u0323 \u1e9b\u0307\u0323 q\u0307\u0323 q\u0323\u0307", "o\u0308\u0304\u0323 \u022b \u1ecd\u0308\u0304 a" + "\u0316\u0301" * 12 + "b", "\u0344\u0323 \u0308\u0301 \u0374 \u037e \u0387 \u2126",
    "\u00c0\u00c8\u00cc\u00d2\u00d9 n\u0303 \u00f1 \u0141\u00f3d\u017a \u010c\u0161\u017e \u0218\u021a", "Ti\u1ebfng Vi\u1ec7t tie\u0302\u0301ng vie\u0323\u0302t \u0111\u1ed3ng",
    "\uff28\uff45\uff4c\uff4c\uff4f\u3000\uff11\uff12\uff13\uff01 \u3392 \u33a1 \u32ff \u337f \ufdfa", "\U0001d400\U0001d41b \U0001d7d8 \u24b6\u24d0 \U0001f130",
    # Cyrillic, Greek, Armenian, Georgian
    "\u0427\u0430\u0439\u043a\u0430 \u043b\u0435\u0442\u0438\u0442 \u043d\u0430\u0434 \u043c\u043e\u0440\u0435\u043c, \u0451\u0436\u0438\u043a \u0435\u0308 \u0439 \u0438\u0306", "\u0418\u0439\u0486\u0483 \u0460\u047d \u0404\u0454\u0457\u0490",
    "\u0397 \u03b8\u03ac\u03bb\u03b1\u03c3\u03c3\u03b1 \u1f04\u03bd\u03b5\u03bc\u03bf\u03c2 \u039f\u0394\u039f\u03a3 \u1fb3 \u1f80 \u03b1\u0313\u0345 \u03d0\u03d5", "\u053e\u0578\u057e\u0568 \u056f\u0561\u057a\u0578\u0582\u0575\u057f \u0567\u0589 \u0587",
    "\u10d6\u10e6\u10d5\u10d0 \u10da\u10e3\u10e0\u10ef\u10d8\u10d0 \u1c96\u1ca6\u1c95\u10d0 \u10fc",
    # Hebrew, Arabic, Syriac, Thaana
    "\u05d4\u05d9\u05dd \u05db\u05d7\u05d5\u05dc, \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \ufb2a\ufb4f \u05f3", "\u0627\u0644\u0628\u062d\u0631 \u0623\u0632\u0631\u0642\u060c \u0627\u0654 \u0622\u0628\u0653 \ufefb \u0640\u0640 \u0661\u0662\u066b\u0663 \u0631\u064f\u0651\u0628\u0651\u064e",
    "\u202b\u0646\u0635\u202c \u200f\u0622\u200e\u061c x\u2066y\u2069", "\u071d\u0721\u0710 \u0712\u0730\u0712\u0733", "\u0786\u07a6\u0782\u07aa \u0789\u07ab\u0791\u07aa",
    # Devanagari, Bengali, Tamil, Telugu, Kannada, Malayalam, Sinhala
    "\u0938\u092e\u0941\u0926\u094d\u0930 \u0928\u0940\u0932\u093e \u0939\u0948\u0964 \u0958 \u0915\u093c \u0915\u094d\u200d\u0937 \u0967\u0968\u0969", "\u09b8\u09ae\u09c1\u09a6\u09cd\u09b0 \u09a8\u09c0\u09b2 \u09cb \u09c7\u09be \u09dc",
    "\u0b95\u0b9f\u0bb2\u0bcd \u0ba8\u0bc0\u0bb2\u0bae\u0bcd \u0bca \u0bc6\u0bbe", "\u0c38\u0c2e\u0c41\u0c26\u0c4d\u0c30\u0c02 \u0c48", "\u0c95\u0ca1\u0cb2\u0cc1 \u0cca\u0cd5 \u0ccb", "\u0d15\u0d1f\u0d32\u0d4d\u200d \u0d4a \u0d4e\u0d15", "\u0db8\u0dd4\u0dc4\u0dd4\u0daf \u0ddd \u0dd9\u0dcf\u0dca",
    # Thai, Lao, Khmer, Burmese, Tibetan
    "\u0e17\u0e30\u0e40\u0e25\u0e2a\u0e35\u0e19\u0e49\u0e33\u0e40\u0e07\u0e34\u0e19 \u0e4d\u0e32 \u0e51\u0e52", "\u0e97\u0eb0\u0ec0\u0ea5 \u0eb3 \u0edc", "\u179f\u1798\u17bb\u1791\u17d2\u179a \u17e1\u17e2", "\u1015\u1004\u103a\u101c\u101a\u103a \u1026 \u1025\u102e", "\u0f62\u0f92\u0fb1\u0f0b\u0f58\u0f5a\u0f7c \u0f73 \u0f71\u0f72 \u0f71\u0f80\u0f74",
    # Han, kana, Hangul, and both ways of writing these
    "\u6d77\u662f\u84dd\u8272\u7684\uff0c\u9e1f\u5728\u98de\u3002", "\u6d77\u306f\u9752\u3044\u3002\u30ab\u30e2\u30e1\u304c\u98db\u3076\u30fc\uff01 \u304b\u3099\u30ac\u30cf\u309a \uff76\uff9e", "\ubc14\ub2e4\ub294 \ud30c\ub797\ub2e4. \u1112\u1161\u11ab\u1100\u1173\u11af \u1100\u1161 \uac00\u11a8 \uac00\u11a7 \u3131",
    "\uf900 \ufa0e \U0002f800 \U00020000 \u3007 \u4dc0 \U0002b740x\U0002b820y", "\u3105\u3106\u3107 \ua000\ua001",
    # Ethiopic, Cherokee, Canadian, runes, Ogham, Mongolian, Braille
    "\u1263\u1215\u122d \u1230\u121b\u12eb\u12ca \u1361 \u1369", "\u13a0\u13b9\u13b2 \uab70\uab89 \u13f8", "\u1403\u14c4\u1483\u144e\u1450\u1466 \u166d\u166e", "\u16a0\u16a2\u16a6\u1680\u1681\u1682", "\u1820\u180b\u1821\u180e\u1823", "\u2801\u2803\u2809 \u28ff",
    # emoji, flags, joined and coloured ones
    "\U0001f426 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\U0001f1eb \u2764\ufe0f \u00a9\ufe0f \u00a9\u200d\u263a 1\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e007f \U0001faa8",
    # what graphemes, controls and private characters do
    "a\u0308\u200db\u200c\u0301c \u0600\u0661 \U000110bd\U00011083 \u0e33\u0301", "\u0001\u0002\u001b[0m\u007f\u0080\u009f\u00ad", "a\u00adb\u00ad \u200bx\u200b \u00ad", "\ue000\uf8ff\U000f0000\U0010ffff \ufdd0\uffff", "\ufff9x\ufffay\ufffb",
    "x\u0301x\u0327\u0301 xX AB aAB\u0301 \u2581\u0301", "\u00bd\u0301 \ufb01\u0301 \u3392\u0301 \u0130\u0301",
    # added tokens, alone, side by side, inside of words, with space
    "<s>", "</s><s>", "a<s>b </s> c", "[CLS] a [SEP] b[MASK]c [PAD]", "<one> x<one>y <one><left> <one>.", "  <left>  x  <right>  y  <both>  z", "<both> <both>  <both>", "a <mask> b<mask>c", "<unk><pad><unk>", "the Norm Al of the norm al, theatre THE the",
    "caf\u00e9 x cafe\u0301  y CAF\u00c9 of of  of", "\u0130X i\u0307x \u0130x", "<left><right> <left> <right><one>a", "\u3000<left>\u3000<right>\u3000x", "<|endoftext|> a<|endoftext|>b", "<extra_id_0> x <extra_id_1>.", "<0x41><0xC3><0xA9> <0x0A>",
    # long, and mixed
    ("Terns fly from pole to pole; \u043a\u0440\u0430\u0447\u043a\u0438 \u043b\u0435\u0442\u044f\u0442, \u9c37\u98de\u7fd4, \u0627\u0644\u062e\u0631\u0634\u0646\u0629 \u062a\u0637\u064a\u0631, \u03c0\u03b5\u03c4\u03bf\u03cd\u03bd. " * 6).strip(),
    "z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319a\u0301\u0302\u0303\u0304\u0305l\u0316\u0317\u0318\u0319g\u035c\u035d\u035eo\u0489", "mixed\u6d77and\uac00\u304bwith\u0430\u0431\u03b1no\u0e01space1\u0967\uff11",
]
