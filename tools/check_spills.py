#!/usr/bin/env python3
"""check_spills.py PROGRAM: the hot loops of the kernels in a program, or object file, keep their values in registers.

A spill costs a third of a product's speed and shows nowhere but in the machine code: gcc keeps an array, or a struct of two
vectors, in memory without a word.  Read from objdump: every function that stands in a src/kernels/isa_<level>.c, whatever its name.

Hot loops are the innermost ones (natural loops of the flow of control that hold no other) with vectors in them.  Not looked at, and
counted aloud: loops that call a function (its own loops are the hot ones, and no vector register outlives a call), and loops on
integers alone (pointers of the rows to come, single elements at odd ends).  The portable level is loops over arrays of 16, which live
in memory by design.

What counts in a hot loop is a value that leaves its register and comes back:
  - a store to a fixed place in the frame that the loop reads, and each such read, of any register and any width;
  - an integer parked in a vector or mask register: each move back of what nothing but moves from integer registers wrote there.
An address with an index, a store that only other code reads, or a vector read where its elements were written one by one, is an array
that the text asked for.  A value that the loop only reads is a constant: from the frame it costs what it costs from .rodata.

How much may count:
  - In a product, a loop more than a third of whose vector instructions are multiply-adds, a sum that goes through memory waits five
    cycles more at each step, and an integer that is moved takes the multiply-adds' place.  Of 32 registers, where constants count
    too if they are vectors: one access for 24 multiply-adds, which no step has that could not keep its sums; steps that widen four
    numbers at once do, and take longer than a sum through memory.  Of 16, which hold the 12 sums of a tile, the panel's vector and the
    rows' numbers, and no more: one access for six.
  - In other loops one access for eight vector instructions, or for fewer: at two of these a cycle that is one in four cycles, in which
    the ports of memory take eight.

Prints each level and what was looked at, each loop that holds too much with its instructions, and "N passed, N failed", in kernels.
A kernel of kernel_list.h that the lower levels, avx2 and avx512, do not show has failed, so that no renaming goes by unseen; an object
file is held to what it has.  Exits 77, which ctest calls skipped, without objdump or kernels of x86-64.
"""
import collections
import pathlib
import re
import shutil
import subprocess
import sys

LEVELS = ("avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16")
WHOLE = ("avx2", "avx512")  # levels with a text for every kernel; the others improve on a few

FRAME = re.compile(r"(?P<at>-?0x[0-9a-f]+)?\(%r(?P<base>[sb])p\)")
JUMP = re.compile(r"^(?:bnd |notrack )?(?:j\w+|loop\w*)\s+([0-9a-f]+)\b")
LEAVES = re.compile(r"^(?:bnd |notrack |repz? )*(?:jmp|ret|ud2|hlt)")
VECTOR = re.compile(r"%[xyz]mm")
MULTIPLY_ADD = re.compile(r"^v(?:fn?m(?:add|sub)\d+[ps]s|dpbf16ps|pdpbusds?|pdpwssds?|pmaddwd|pmaddubsw)$")
# Without a destination: the last operand is read.
READS_LAST = re.compile(r"^(?:cmp|test|bt[bwlq]?$|v?u?comis|vp?test[bwdqp]|push|call|jmp|prefetch|i?mul|i?div)")
# With one that is only written; others read it too, as add and inc.
ONLY_WRITES = re.compile(r"^(?:v|k?mov|set|pop|kmov)")
TO_INTEGER = re.compile(r"^(?:vmov[dq]|vpextr[dq]|kmov\w)$")
FROM_INTEGER = re.compile(r"^(?:vmov[dq]|vpinsr[dq]|kmov\w)$")
INTEGER = re.compile(r"^%(?:r\w+|e\w\w)$")

Instruction = collections.namedtuple("Instruction", "address text name operands")
Access = collections.namedtuple("Access", "code begin end reads writes")


def parse(address, text):
    text = re.sub(r"\s+[#<].*$", "", text)
    parts = re.sub(r"^(?:\{\w+\}\s+|rep\w*\s+|lock\s+|bnd\s+|notrack\s+|data16\s+|cs\s+)+", "", text).split(None, 1)
    operands = re.split(r",(?![^(]*\))", parts[1]) if len(parts) > 1 else []
    return Instruction(address, text, parts[0] if parts else "", tuple(operand.strip() for operand in operands))


def objdump(*arguments):
    return subprocess.run(["objdump", *arguments], check=True, capture_output=True, text=True).stdout.splitlines()


def kernel_functions(program):
    """{(section, address): (name, level)} of the functions that stand in src/kernels/isa_<level>.c.  objdump -t lists a source file's
    local symbols after its name, and all kernels are local."""
    found, level = {}, None
    for line in objdump("-t", program):
        symbol = re.match(r"^([0-9a-f]+) (.{7}) (\S+)\t[0-9a-f]+\s+(?:\.\w+\s+)?(\S+)$", line)
        if not symbol:
            continue
        address, flags, section, name = symbol.groups()
        if flags[6] == "f":
            source = re.match(r"^isa_(\w+)\.c$", name)
            level = source.group(1) if source and source.group(1) in LEVELS else None
        elif flags[6] == "F" and flags[0] == "l" and level:
            found[section, int(address, 16)] = name, level
    return found


def disassembly(program):
    """Yields ((section, address), [Instruction]) of each function."""
    section, where, body = None, None, []
    for line in objdump("-d", "--no-show-raw-insn", program):
        code = re.match(r"^\s+([0-9a-f]+):\s+(.*?)\s*$", line)
        if code:
            body.append(parse(int(code.group(1), 16), code.group(2)))
            continue
        in_section = re.match(r"^Disassembly of section (.+):$", line)
        head = re.match(r"^([0-9a-f]+) <.+>:$", line)
        if in_section or head:
            if body:
                yield where, body
            body = []
        if in_section:
            section = in_section.group(1)
        elif head:
            where = section, int(head.group(1), 16)
    if body:
        yield where, body


def flow(body):
    """Basic blocks as ranges of the body, and the blocks that each leads to."""
    index = {code.address: i for i, code in enumerate(body)}
    targets = [index.get(int(jump.group(1), 16)) if (jump := JUMP.match(code.text)) else None for code in body]
    starts = {0}
    for i, code in enumerate(body):
        if targets[i] is not None:
            starts.add(targets[i])
        if JUMP.match(code.text) or LEAVES.match(code.text):
            starts.add(i + 1)
    starts = sorted(start for start in starts if start < len(body))
    number = {start: block for block, start in enumerate(starts)}
    blocks = [range(start, end) for start, end in zip(starts, starts[1:] + [len(body)])]
    leads = []
    for block in blocks:
        to, last = [], block[-1]
        if targets[last] is not None:
            to.append(number[targets[last]])
        if not LEAVES.match(body[last].text) and last + 1 < len(body):
            to.append(number[last + 1])
        leads.append(to)
    return blocks, leads


def is_padding(code):
    return code.name.startswith("nop") or code.text in ("xchg   %ax,%ax", "int3")


def innermost_loops(body):
    """Natural loops without another in them, as lists of instructions."""
    blocks, leads = flow(body)
    led_to = {to for after in leads for to in after}
    order, seen = [], set()
    # Where the table of a switch leads is not known: what nothing leads to is a way in, unless it is there to align what follows.
    entries = [0]
    if any(re.match(r"(?:notrack )?jmp\s+\*", code.text) for code in body):
        entries += [block for block in range(len(blocks)) if block not in led_to and not all(is_padding(body[i]) for i in blocks[block])]
    ways_in = set()
    for entry in entries:
        if entry in seen:
            continue
        ways_in.add(entry)
        seen.add(entry)
        path = [(entry, iter(leads[entry]))]
        while path:
            block, rest = path[-1]
            after = next((to for to in rest if to not in seen), None)
            if after is None:
                order.append(block)
                path.pop()
            else:
                seen.add(after)
                path.append((after, iter(leads[after])))
    order.reverse()
    before = collections.defaultdict(list)
    for block in order:
        for to in leads[block]:
            before[to].append(block)

    above = {block: -1 for block in order}  # the blocks on every way to one, as bits
    changed = True
    while changed:
        changed = False
        for block in order:
            common = 0 if block in ways_in else -1
            for previous in before[block]:
                common &= above[previous]
            common |= 1 << block
            changed, above[block] = changed or common != above[block], common
    loops = set()
    for block in order:
        for head in leads[block]:
            if above[block] >> head & 1:
                loop, todo = {head, block}, [block] if block != head else []
                while todo:
                    new = [previous for previous in before[todo.pop()] if previous not in loop]
                    loop.update(new)
                    todo += new
                loops.add(frozenset(loop))
    for loop in sorted(loops, key=min):
        if not any(other < loop for other in loops):
            yield [body[i] for block in sorted(loop) for i in blocks[block]]


def width(code):
    """Bytes of memory that an instruction with a memory operand touches."""
    one = re.match(r"^v.*?(?:s([sd])|broadcast([bwdq])|mov([dq])|(?:extr|insr)([bwdq]))$", code.name)
    if one:
        return {"b": 1, "w": 2, "s": 4, "d": 8 if one.group(1) else 4, "q": 8}[next(filter(None, one.groups()))]
    text = " ".join(code.operands)
    if "{1to" in text:
        return 8
    for name, size in (("%zmm", 64), ("%ymm", 32), ("%xmm", 16)):
        if name in text:
            return size // 2 if re.match(r"^v(?:cvtph2ps|pmov[sz]x(?:bw|wd|dq))$", code.name) else size
    if re.search(r"%(?:e\w\w|r\d+d)\b", re.sub(FRAME, "", text)):
        return 4
    return 8


def frame_accesses(loop, has_frame_pointer):
    for code in loop:
        if code.name.startswith(("lea", "nop")):
            continue
        for i, operand in enumerate(code.operands):
            place = FRAME.search(operand)
            if not place or place.group("base") == "b" and not has_frame_pointer:
                continue
            begin = int(place.group("at") or "0", 16)
            writes = i == len(code.operands) - 1 and not READS_LAST.match(code.name)
            reads = not writes or not ONLY_WRITES.match(code.name)
            # The two bases never meet: offsets from one say nothing about the other.
            begin += 1 << 40 if place.group("base") == "b" else 0
            yield Access(code, begin, begin + width(code), reads, writes)


def registers(operand):
    return set(re.findall(r"%(?:[xyz]mm\d+|k\d)", re.sub(r"%[xyz]mm", "%zmm", operand)))


def parked(loop):
    """Moves to integer registers of what none but moves from integer registers wrote."""
    for i, code in enumerate(loop):
        if not TO_INTEGER.match(code.name) or len(code.operands) < 2 or not INTEGER.match(code.operands[-1]):
            continue
        source = registers(code.operands[-2])
        if not source:
            continue
        writers = [loop[i - back] for back in range(1, len(loop) + 1)
                   if loop[i - back].operands and source & registers(loop[i - back].operands[-1].split("{")[0])]
        if not writers or FROM_INTEGER.match(writers[0].name) and any(INTEGER.match(o) for o in writers[0].operands):
            yield code


def comes_back(store, load):
    element_of_vector = store.end - store.begin <= 8 and load.end - load.begin >= 16
    return store.begin < load.end and load.begin < store.end and not element_of_vector


def held(level, loop, has_frame_pointer):
    """(what counts in the loop, how much may)"""
    accesses = list(frame_accesses(loop, has_frame_pointer))
    vectors = sum(1 for code in loop if VECTOR.search(code.text))
    multiply_adds = sum(1 for code in loop if MULTIPLY_ADD.match(code.name))
    product = 3 * multiply_adds > vectors
    many_registers = level.startswith("avx512")

    written = [access for access in accesses if access.writes]
    read = [access for access in accesses if access.reads]
    counts = {code for store in written for load in read if comes_back(store, load) for code in (store.code, load.code)}
    if product and many_registers:
        counts |= {access.code for access in read if VECTOR.search(access.code.text)}
    counts |= set(parked(loop))
    allowed = multiply_adds // (24 if many_registers else 6) if product else -(-vectors // 8)
    return sorted(counts), allowed


def kernels(root):
    return re.findall(r"^TERN_KERNEL\((\w+),", (root / "src/kernels/kernel_list.h").read_text(encoding="utf-8"), re.M)


def main(program):
    if not shutil.which("objdump"):
        print("skipped: objdump is not installed")
        return 77
    known = kernel_functions(program)
    if not known:
        print("skipped: no kernels of x86-64 in", program)
        return 77
    tally, bad, there = collections.Counter(), {}, set()
    for where, body in disassembly(program):
        name, level = known.get(where, (None, None))
        if not name:
            continue
        tally[level, "functions"] += 1
        there.add(where)
        has_frame_pointer = any(code.name == "mov" and code.operands == ("%rsp", "%rbp") for code in body)
        for loop in innermost_loops(body):
            if any(code.name.startswith("call") for code in loop):
                tally[level, "calls"] += 1
            elif not any(VECTOR.search(code.text) for code in loop):
                tally[level, "integers"] += 1
            else:
                tally[level, "loops"] += 1
                counts, allowed = held(level, loop, has_frame_pointer)
                if len(counts) > allowed:
                    bad.setdefault((name, level), []).append((loop, counts, allowed))

    passed = failed = 0
    whole = not program.endswith(".o")
    names = {name for where, (name, level) in known.items() if where in there}
    for level in LEVELS:
        if not tally[level, "functions"] and not (whole and level in WHOLE):
            continue
        missing = [kernel for kernel in kernels(pathlib.Path(__file__).resolve().parent.parent)
                   if whole and level in WHOLE and f"tern_{kernel}_{level}" not in names]
        broken = {name for name, at in bad if at == level}
        passed += tally[level, "functions"] - len(broken)
        failed += len(broken) + len(missing)
        print(f"{level}: {tally[level, 'functions']} functions, {tally[level, 'loops']} hot loops;"
              f" not looked at: {tally[level, 'calls']} loops that call, {tally[level, 'integers']} of integers alone")
        for kernel in missing:
            print(f"! {kernel} at {level}: expected a function tern_{kernel}_{level} in isa_{level}.c, found none")
    for (name, level), loops in bad.items():
        for loop, counts, allowed in loops:
            print(f"! {name}, level {level}: the loop at {loop[0].address:x} ({len(loop)} instructions) has {len(counts)} accesses to values"
                  f" out of their registers, expected {f'at most {allowed}' if allowed else 'none'}:")
            for code in counts:
                print(f"    {code.address:x}: {code.text}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
