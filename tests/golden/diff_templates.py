#!/usr/bin/env python3
"""Renders generated templates with tern and with jinja2 as transformers sets it up, and shows where they differ.

    build/golden-env/bin/python tests/golden/diff_templates.py [--library build/release/libtern.so] [--n 20000] [--seed 1]

Templates are drawn from a grammar of statements and expressions over a few variables of every type.  Where jinja2 renders, tern must
give the same bytes; where jinja2 raises, tern must give an error.  Left out: what prints an address, integers beyond 64 bits, and what
docs/chat.md lists as refused (counted at the end)."""
import argparse
import collections
import ctypes
import json
import os
import random
import re
import tempfile
import warnings

from transformers.utils import chat_template_utils as reference

warnings.simplefilter("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
STATUS = {1: "argument", 5: "unsupported", 6: "format", 11: "limit"}

VARIABLES = {
    "n": 7, "m": -3, "z": 0, "x": 2.5, "y": -0.125, "t": True, "f": False, "none_value": None,
    "s": "Hello World", "e": "", "u": "Straße ΑΣ çöl ǆ", "w": "  \t pad\n\n", "q": "it's \"q\"\\", "lines": "one\ntwo\r\n\nthree\n",
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "lm": [1, "a", None, 2.0, [1], {"k": 1}], "le": [],
    "d": {"b": 1, "a": "two", "items": [1], "C": None}, "de": {},
    "people": [{"name": "Ann", "age": 31, "tags": ["x", "y"], "in": {"k": 1}}, {"name": "bob", "age": 4, "tags": []},
               {"name": "Cy", "age": 31}],
    "big": 9007199254740993, "tiny": 1e-7, "huge": 1e22, "nested": {"a": {"b": [{"c": "deep"}]}},
}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b> & 'you'"},
            {"role": "assistant", "content": "Yes\n", "reasoning": "hm"}]


class Options(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("tools", ctypes.c_char_p), ("documents", ctypes.c_char_p),
                ("variables", ctypes.c_char_p), ("prompt", ctypes.c_bool), ("now", ctypes.c_int64),
                ("steps", ctypes.c_uint64), ("depth", ctypes.c_uint32), ("output", ctypes.c_size_t),
                ("memory", ctypes.c_size_t), ("reserved", ctypes.c_uint64 * 6)]


class Tern:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.tern_error.restype = ctypes.c_char_p
        self.lib.tern_chat_text_free.argtypes = [ctypes.c_void_p]
        self.ctx = ctypes.c_void_p()
        message = ctypes.create_string_buffer(512)
        os.environ["TERN_THREADS"] = "1"
        if self.lib.tern_ctx_create(ctypes.byref(self.ctx), None, message, ctypes.c_size_t(512)):
            raise SystemExit(message.value.decode())
        self.folder = tempfile.TemporaryDirectory()
        self.file = os.path.join(self.folder.name, "t.jinja")

    def render(self, source, messages, variables, prompt=True, tools=None):
        """(text, None) or (None, (status, error))"""
        with open(self.file, "w", newline="") as f:
            f.write(source)
        chat, text, size = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
        status = self.lib.tern_chat_open(self.ctx, self.folder.name.encode(), self.file.encode(), ctypes.byref(chat))
        if not status:
            o = Options(None, json.dumps(tools).encode() if tools else None, None, json.dumps(variables).encode(), prompt, 0)
            m = json.dumps(messages).encode()
            status = self.lib.tern_chat_render(self.ctx, chat, m, ctypes.c_size_t(len(m)), ctypes.byref(o), ctypes.byref(text),
                                               ctypes.byref(size))
        if status:
            error = (status, self.lib.tern_error(self.ctx).decode(errors="replace"))
            self.lib.tern_chat_close(ctypes.byref(chat))
            return None, error
        result = ctypes.string_at(text.value, size.value).decode()
        self.lib.tern_chat_text_free(text)
        self.lib.tern_chat_close(ctypes.byref(chat))
        return result, None


def expected(source, messages, variables, prompt=True, tools=None):
    """(text, None) or (None, error)"""
    try:
        rendered, _ = reference.render_jinja_template([messages], tools=tools, chat_template=source,
                                                      add_generation_prompt=prompt, **variables)
        rendered[0].encode()
        return rendered[0], None
    except RecursionError:
        raise
    except Exception as e:  # jinja2 hands on whatever Python raises
        return None, f"{type(e).__name__}: {e}"


FILTERS = """abs capitalize count dictsort first float int items|list join last length list lower max min reverse|list round safe sort
string sum title trim unique|list upper tojson e indent default('D') default('D',true) d(none) join(',') join(n) replace('l','LL')
replace('','-') replace('o','0',1) sort(reverse=true) sort(case_sensitive=true) sort(attribute='age') sort(attribute='age,name')
map('upper')|list map(attribute='name')|list map(attribute='tags.0')|list map(attribute='age',default=0)|list map('length')|list map('int')|list
select|list select('odd')|list select('string')|list select('equalto','a')|list select('gt',1)|list select('in',[1,2])|list reject('none')|list
reject|list selectattr('age')|list selectattr('age','>',5)|list selectattr('tags','defined')|list rejectattr('tags')|list
selectattr('name','equalto','Ann')|list rejectattr('age','eq',31)|list groupby('age') groupby('name') batch(2)|list batch(2,'F')|list slice(2)|list
slice(2,'F')|list tojson(indent=2) tojson(ensure_ascii=true) tojson(separators=(',',':')) tojson(sort_keys=true) indent(2) indent('>',true)
indent(2,true,true) round(1) round(1,'ceil') round(0,'floor') round(2) int(5) int(default=9) int(0,16) float(1.5) truncate(8) truncate(8,true) truncate(5,false,'~',0)
center(20) trim('H ') dictsort(by='value') dictsort(true) dictsort(reverse=true) sum(start=5) sum('age') max(attribute='age') min(attribute='name') unique(attribute='age')|list
string|length attr('upper') format(1,2) map('default','-')|list map('tojson')|join(';') list|tojson list|last first|string random""".split()
TESTS = """defined undefined none string mapping iterable sequence number integer float boolean true false odd even divisibleby(3)
divisibleby(2) equalto(7) eq('a') ne(1) lt(3) gt(2) ge(2.5) le(0) lessthan(9) greaterthan(1) in([1,7]) in('Hello') sameas(none) sameas(true)
callable lower upper escaped filter test even""".split()
METHODS = """upper() lower() strip() lstrip() rstrip() strip('Hd ') split() split('o') split(' ',1) rsplit() rsplit('o',1) rsplit(none,1) splitlines()
splitlines(true) startswith('He') startswith(('x','H')) endswith('ld') endswith('') replace('l','_') replace('l','_',1) title() capitalize() swapcase()
join(ls) join(['x']) find('o') find('o',5) find('zz') rfind('o') index('W') count('l') count('') isdigit() isalpha() isalnum() isupper() islower() isspace()
isdecimal() isascii() partition('o') rpartition('o') partition('zz') removeprefix('He') removesuffix('ld') zfill(15) ljust(14,'.') rjust(14) center(15,'*')
format(1,2) casefold() items()|list keys()|list values()|list get('a') get('zz') get('zz',5) items() keys() values() copy() append(1) pop() update({}) index(1) count(1) is_integer() lstrip('H') rstrip('d\\n')
startswith('l',2) endswith('o',0,5) find('l',-3) encode isprintable()""".split()
ATOMS = """n m z x y t f none_value s e u w q lines l ls lm le d de people nested tiny missing none true false 1 2 0 -1 3.0 1e3 0.1 'a' "b c"
'\\n' '' [] [1,2] (1,2) (1,) () {} {'k':1} {'a':[1]} messages loop range(3) range(2,8,3) range(5,0,-2) 'é' 'ß' '%s-%d' '{}|{}' '{0!r:>5}{1:.2f}'""".split("\n")
ATOMS = [a for line in ATOMS for a in re.findall(r"'[^']*'|\"[^\"]*\"|\S+", line)]


# What is asked of values of one type, and so mostly makes sense.
KINDS = {
    "str": (["s", "e", "u", "w", "q", "lines", "'abc'", "'é'", "'x y'", "''", "ls[0]", "messages[1].content", "people[0].name", "d.a", "'a\\n b\\n'"],
            """capitalize first int last length list lower string title trim upper tojson e indent replace('l','LL') replace('','-') replace('o','0',1)
            reverse truncate(8) truncate(5,true) center(20) trim('H ') indent(2) indent('>',true) float default('D') tojson(ensure_ascii=true) unique|list
            map('upper')|list batch(2)|list sort join('-')""".split(),
            [m for m in METHODS if not re.match("items|keys|values|get|copy|append|pop|update|index|is_integer|encode", m)]),
    "num": (["n", "m", "z", "x", "y", "1", "2.5", "l[0]", "huge", "tiny", "10", "t", "people[0].age", "big"],
            "abs int float round round(1) round(1,'ceil') round(0,'floor') string tojson default(3) round(2)".split(), ["is_integer()"]),
    "list": (["l", "ls", "lm", "le", "people", "range(4)", "[1, 2, 2]", "['b', 'a', 'B']", "(3, 1)", "messages", "people[0].tags", "d.values()", "d.items()"],
             [f for f in FILTERS if re.match("first|join|last|length|list|max|min|reverse|sort|sum|unique|tojson|map|select|reject|groupby|batch|slice|string", f)],
             ["index(1)", "count(1)", "append(1)", "copy()"]),
    "dict": (["d", "de", "people[0]", "{'k': 1, 'j': [2]}", "messages[0]", "nested", "dict(a=1, b='x')", "dict([(1, 2)])"],
             "dictsort dictsort(true) dictsort(reverse=true) items|list length list tojson tojson(indent=2) tojson(sort_keys=true) first string dictsort(by='value')".split(),
             [m for m in METHODS if re.match("items|keys|values|get|copy|update|pop", m)]),
}


class Generator:
    def __init__(self, rng):
        self.r = rng
        self.names = 0

    def pick(self, items):
        return self.r.choice(items)

    def atom(self):
        if self.names and self.r.random() < 0.25:
            return f"v{self.r.randrange(self.names)}"
        return self.pick(ATOMS)

    def typed(self, kind, depth):
        atoms, filters, methods = KINDS[kind]
        text = self.pick(atoms)
        e = lambda k: self.typed(k, depth - 1)
        if depth <= 0:
            return text
        roll = self.r.randrange(12)
        if kind == "str" and roll < 3:
            return f"{self.wrap(e('str'))}.{self.pick(methods)}"
        if kind == "str" and roll < 5:
            return f"{e('str')} {self.pick(['~', '+'])} {self.pick([e('str'), e('num') if self.r.random() < 0.3 else e('str')])}"
        if kind == "str" and roll == 5:
            return f"{self.wrap(e('str'))}[{self.pick(['0', '-1', ':3', '1:', '::-1', '-4:', '::2'])}]"
        if kind == "num" and roll < 7:
            return f"{self.wrap(e('num'))} {self.pick(['+', '-', '*', '/', '//', '%', '+', '-'])} {self.wrap(e('num'))}"
        if kind == "list" and roll < 3:
            return f"{self.wrap(e('list'))}[{self.pick([':2', '1:', '::-1', '-2:', ':-1'])}]"
        if kind == "list" and roll == 3:
            return f"[{self.expression(depth - 1)}, {e(self.pick(list(KINDS)))}, {e('str')}]"
        if kind == "dict" and roll == 3:
            return f"{self.wrap(e('dict'))}.{self.pick(methods)}"
        return f"{self.wrap(e(kind))}|{self.pick(filters)}"

    def expression(self, depth):
        if self.r.random() < 0.7:
            kind = self.pick(list(KINDS))
            text = self.typed(kind, depth)
            roll = self.r.randrange(14)
            if roll == 0:
                return f"{self.wrap(text)} is {self.pick(['', 'not '])}{self.pick(TESTS)}"
            if roll == 1:
                return f"{text} {self.pick(['==', '!=', '<', '>', '<=', '>=', 'in', 'not in'])} {self.typed(kind, depth - 1)}"
            if roll == 2:
                return f"{text} {self.pick(['and', 'or'])} {self.typed(self.pick(list(KINDS)), depth - 1)}"
            if roll == 3:
                return f"({text} if {self.typed(kind, depth - 1)} else {self.atom()})"
            return text
        return self.chaos(depth)

    def chaos(self, depth):
        if depth <= 0 or self.r.random() < 0.12:
            return self.atom()
        e = lambda: self.expression(depth - 1)
        kind = self.r.randrange(26)
        if kind < 6:
            return f"{self.wrap(e())}|{self.pick(FILTERS)}"
        if kind < 9:
            return f"{self.wrap(e())}.{self.pick(METHODS)}"
        if kind < 11:
            return f"{self.wrap(e())} is {self.pick(['', 'not '])}{self.pick(TESTS)}"
        if kind < 14:
            return f"{e()} {self.pick(['+', '-', '*', '/', '//', '%', '~', '~', '+'])} {e()}"
        if kind == 14:
            return f"{self.pick(['n', 'x', '2', '3', '10'])} ** {self.pick(['2', '0', '-1', '0.5', 'n', '3'])}"
        if kind == 15:
            return f"{e()} {self.pick(['==', '!=', '<', '>', '<=', '>=', 'in', 'not in'])} {e()}"
        if kind == 16:
            return f"{e()} {self.pick(['<', '==', '!='])} {e()} {self.pick(['<=', '=='])} {e()}"
        if kind == 17:
            return f"{e()} {self.pick(['and', 'or'])} {e()}"
        if kind == 18:
            return f"not {e()}"
        if kind == 19:
            return f"({e()} if {e()}{' else ' + e() if self.r.random() < 0.8 else ''})"
        if kind == 20:
            key = self.pick(["0", "-1", "5", ":", "1:", ":-1", "::-1", "::2", "-2:", "1:2", "9:", "::-2", "'a'", "'name'", "n", "none"])
            return f"{self.pick(['s', 'l', 'ls', 'd', 'people', 'u', 'lm', 'messages'])}[{key}]"
        if kind == 21:
            return f"{self.wrap(e())}.{self.pick(['name', 'age', 'a', 'b', 'items', 'zz', '0', 'content', 'role', 'in', '_x', '__class__', 'tags'])}"
        if kind == 22:
            return f"[{e()}, {e()}]"
        if kind == 23:
            key = self.pick(["1", "'j'", "n", "t", "(1, 2)"])
            return "{" + f"'k': {e()}, {key}: {e()}" + "}"
        if kind == 24:
            return f"({e()}, {e()})"
        return self.pick(["-", "+"]) + self.wrap(e())

    def wrap(self, text):
        return text if re.fullmatch(r"[\w.]+|'[^']*'|\[.*\]|\{.*\}", text) and self.r.random() < 0.8 else f"({text})"

    def name(self):
        self.names += 1
        return f"v{self.names - 1}"

    def tag(self, text):
        return "{%" + self.pick(["", "", "-", "+"]) + f" {text} " + self.pick(["", "", "-"]) + "%}"

    def text(self):
        return self.pick(["\n", " ", "  ", "x", "text\n", "\n  ", " \n", "é", "", "\t", "a b\n\n", "<", "{", "}", "%"])

    def body(self, depth):
        return "".join(self.statement(depth) for _ in range(self.r.randrange(1, 4)))

    def statement(self, depth):
        if depth <= 0:
            return self.text() + "{{" + self.pick(["", "-"]) + f" {self.expression(2)} " + self.pick(["", "-"]) + "}}" + self.text()
        kind = self.r.randrange(20)
        b = lambda: self.text() + self.body(depth - 1) + self.text()
        if kind < 4:
            return "{{ " + self.expression(self.r.randrange(1, 4)) + " }}" + self.text()
        if kind < 6:
            other = self.tag("elif " + self.expression(2)) + b() if self.r.random() < 0.3 else ""
            other += self.tag("else") + b() if self.r.random() < 0.5 else ""
            return self.tag("if " + self.expression(2)) + b() + other + self.tag("endif")
        if kind < 10:
            items = self.pick(["l", "ls", "people", "d", "d.items()", "range(4)", "s", "le", "messages", "missing", "people|selectattr('tags')", "d|items",
                               "nested", self.expression(2)])
            target = self.name()
            if items in ("d.items()", "d|items") and self.r.random() < 0.8:
                target += ", " + self.name()
            condition = f" if {self.expression(2)}" if self.r.random() < 0.2 else ""
            jump = self.pick(["", "", self.tag("if " + self.pick(["loop.index > 2", "loop.first", "loop.last"])) +
                              self.tag(self.pick(["break", "continue"])) + self.tag("endif")])
            inside = self.pick(["", "{{ loop.index }}{{ loop.revindex0 }}{{ loop.last }}", "{{ loop.cycle('p','q') }}", "{{ loop.previtem }}{{ loop.nextitem }}",
                                "{{ loop.changed(" + target.split(",")[0] + ") }}", "{{ loop.length }}{{ loop.depth0 }}", "{{ loop }}"])
            other = self.tag("else") + b() if self.r.random() < 0.3 else ""
            return self.tag(f"for {target} in {items}{condition}") + inside + jump + b() + other + self.tag("endfor")
        if kind < 13:
            value = self.expression(self.r.randrange(1, 3))
            return self.tag(f"set {self.name()} = {value}")
        if kind == 13:
            value = b()
            return self.tag(f"set {self.name()}{self.pick(['', '|upper', '|trim'])}") + value + self.tag("endset")
        if kind == 14:
            name = self.name()
            value = self.expression(2)
            return self.tag(f"set {name} = namespace(a={value}, b=1)") + self.tag(f"for i in l") + self.tag(
                f"set {name}.{self.pick(['a', 'b', 'c'])} = {self.pick(['i', name + '.b + i', name + '.a ~ i', self.expression(1)])}") + self.tag(
                "endfor") + "{{ " + name + ".a }}{{ " + name + ".b }}{{ " + name + " }}"
        if kind == 15:
            macro = f"f{self.r.randrange(3)}"
            body = b()
            extra = self.pick(["", "", "{{ caller() }}", "{{ varargs }}{{ kwargs }}", "{{ caller(1) }}", "{{ p }}"])
            call = self.pick([f"{{{{ {macro}({self.expression(1)}) }}}}", f"{{{{ {macro}({self.expression(1)}, q={self.expression(1)}) }}}}",
                              f"{{{{ {macro}() }}}}", self.tag(f"call {macro}(n)") + "in{{ s }}" + self.tag("endcall"),
                              self.tag(f"call(a) {macro}(n)") + "in{{ a }}" + self.tag("endcall"), f"{{{{ {macro}(1, 2, 3, k=4) }}}}", f"{{{{ {macro} }}}}"])
            return self.tag(f"macro {macro}(p, q=n)") + body + extra + self.tag("endmacro") + call
        if kind == 16:
            return self.tag("filter " + self.pick(["upper", "trim", "replace('e','E')|lower", "indent(2)", "title"])) + b() + self.tag("endfilter")
        if kind == 17:
            return self.tag(f"with {self.name()} = {self.expression(1)}") + b() + self.tag("endwith")
        if kind == 18:
            return self.pick(["{# c #}", "{#- c -#}\n", " {# a\nb #}\n", self.tag("raw") + " {{ x }} {% y %} " + self.tag("endraw"),
                              self.tag("generation") + b() + self.tag("endgeneration")])
        return self.tag("for v in nested.a.b recursive") + "{{ loop.depth }}{{ v }}" + self.tag("if loop.depth < 3") + "{{ loop(v.values()|list) }}" + self.tag(
            "endif") + self.tag("endfor")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--library", default=os.path.join(HERE, "..", "..", "build", "release", "libtern.so"))
    p.add_argument("--n", type=int, default=20000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--show", type=int, default=20)
    a = p.parse_args()
    tern = Tern(os.path.abspath(a.library))
    counts, refused, shown = collections.Counter(), collections.Counter(), 0
    for i in range(a.n):
        g = Generator(random.Random(f"{a.seed}/{i}"))
        source = g.body(g.r.randrange(0, 3)) if g.r.random() < 0.6 else "{{ " + g.expression(3) + " }}"
        want, why = expected(source, MESSAGES, VARIABLES)
        got, error = tern.render(source, MESSAGES, VARIABLES)
        if want is not None and re.search(r" at 0x[0-9a-f]+|<function|object>|Markup\(|\{\.\.\.\}", want):
            counts["prints an address"] += 1
        elif error and (error[0] == 5 or "64 bits" in error[1]):
            counts["refused, rendered by jinja2" if want is not None else "refused, an error of jinja2"] += 1
            refused[re.sub(r"^.*line \d+: ", "", error[1])[:80]] += want is not None
        elif error and "not subscriptable" in error[1] and want is not None:
            counts["slices of constants"] += 1  # an error, and undefined where jinja2's optimiser meets it
        elif want is None and error:
            counts["errors of both"] += 1
        elif want == got:
            counts["the same"] += 1
        else:
            counts["DIFFERENT"] += 1
            if shown < a.show:
                shown += 1
                print(f"--- {a.seed}/{i}\n{source}\njinja2: {want!r} {why or ''}\ntern:   {got!r} {error or ''}")
    print(dict(counts), {k: v for k, v in refused.items() if v})
    return counts["DIFFERENT"] > 0


if __name__ == "__main__":
    raise SystemExit(main())
