#!/usr/bin/env python3
"""Writes the figures of docs/models.md: runs every golden of tests/golden/models, and puts what came out between the two marks.

    models_table.py BUILD

BUILD has the test model/families (make models-table builds it).  The first table has each family's largest figures, the second those of
each golden.  The test holds its figures against these from then on.
"""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOC = os.path.join(ROOT, "docs", "models.md")
GOLDENS = os.path.join(ROOT, "tests", "golden", "models")
BEGIN, END = "<!-- figures: written by make models-table -->\n", "<!-- figures end -->\n"


def run(build):
    """Rows of the test, by the golden's name."""
    with tempfile.TemporaryDirectory() as folder:
        table = os.path.join(folder, "table")
        test = os.path.join(build, "tests", "model", "test_families")
        subprocess.run([test], env=os.environ | {"TERN_MODELS_TABLE": table}, check=True, stdout=subprocess.DEVNULL)
        with open(table) as f:
            rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in f]
    return {row[0]: row for row in rows}


def family(golden):
    with open(os.path.join(GOLDENS, golden, "config.json")) as f:
        return json.load(f)["model_type"]


def families(rows):
    worst = {}
    for name, (_, _, *figures) in rows.items():
        of = worst.setdefault(family(name), [0, [0.0] * len(figures)])
        of[0] += 1
        of[1] = [max(a, float(b)) for a, b in zip(of[1], figures)]
    lines = ["| family | goldens | fp32 | bf16 | fp16 | int8 |", "|---|---|---|---|---|---|"]
    for name, (count, figures) in sorted(worst.items()):
        lines.append(f"| {name} | {count} | " + " | ".join(f"{x:.1e}" for x in figures) + " |")
    return lines


def goldens(rows):
    lines = ["| golden | architecture | fp32 | bf16 | fp16 | int8 |", "|---|---|---|---|---|---|"]
    return lines + [f"| `{row[0]}` | `{row[1]}` | " + " | ".join(row[2:]) + " |" for _, row in sorted(rows.items())]


def main():
    rows = run(sys.argv[1])
    missing = set(os.listdir(GOLDENS)) - set(rows)
    if missing:
        sys.exit(f"models_table: no row came of {', '.join(sorted(missing))}")
    with open(DOC) as f:
        text = f.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"models_table: {DOC} has not the two marks, {BEGIN.strip()} and {END.strip()}, once each")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = families(rows) + [""] + goldens(rows)
    with open(DOC, "w") as f:
        f.write(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + after)
    print(f"{len(rows)} goldens, {len(set(map(family, rows)))} families: docs/models.md")


if __name__ == "__main__":
    main()
