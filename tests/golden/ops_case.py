"""What a case of the operators' goldens is, and what its tolerance follows from (docs/numerics.md)."""
import dataclasses
import math

from ops_inputs import codes, normal, uniform

# One rounding, relative: half a unit of the last of 24, 11 and 8 bits.
ROUNDING = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}
# dtype, activation_dtype, activation_quant
MODES = [("fp32",), ("fp16",), ("bf16",), ("int8", "fp16"), ("int8", "fp32"), ("int8", "bf16"), ("int8", "fp16", "row"),
         ("int8", "fp32", "row"), ("int8", "bf16", "row")]
LARGE = 5e9


@dataclasses.dataclass
class Case:
    settings: dict
    inputs: dict
    depth: object = 1      # longest chain of sums behind an element; a number, or one for each output
    products: object = 0   # products whose rows are rounded before: to bf16 with bf16; a number, or one for each output
    stores: object = 0     # sums over what was rounded to the activations' dtype on the way; the same
    widths: tuple = ()     # of the rows that activation_quant=row makes codes of and that are no inputs
    size: dict = dataclasses.field(default_factory=dict)  # what errors of an output are relative to, where not its rms
    exact: tuple = ()      # outputs that are copies or integers
    flop: float = 0
    limit: dict = dataclasses.field(default_factory=dict)  # upstream's (rtol, atol) where they are not its defaults, by dtype
    cache: dict = dataclasses.field(default_factory=dict)  # softmax_context: chunks of one sequence, or lengths of several
    outputs: dict = dataclasses.field(default_factory=dict)  # dtypes that are not the activations'
    weightless: bool = False  # it has no weights, so that int8 is its activation_dtype
    wanted: tuple = ()     # outputs; all by default
    follows: bool = True   # the outputs' shapes follow from the inputs'
    only: tuple = ("fp32", "fp16", "bf16", "int8")  # its dtypes

    def of(self, what, output):
        value = getattr(self, what)
        return value.get(output, 0) if isinstance(value, dict) else value


@dataclasses.dataclass
class Mode:
    dtype: str
    activation: str
    row: bool
    index: int  # of the case in its operator's grid

    @property
    def settings(self):
        if self.dtype != "int8":
            return dict(dtype=self.dtype)
        return dict(dtype="int8", activation_dtype=self.activation, activation_quant="row" if self.row else "none")

    def limit(self, case, output):
        """Upstream's (rtol, atol) where they are not its defaults for the output's dtype."""
        if self.row and self.activation == "fp32" and case.of("products", output):
            return (3e-2, 2e-3)  # it has no rows of codes; what goes with its int8 weights is fp16
        return case.limit.get(self.activation)

    def inner(self, case, output):
        """What roundings on the way may cost, relative to an output's size."""
        if output in case.exact:
            return 0.0
        cost = case.of("stores", output) * (ROUNDING[self.activation] if self.activation != "fp32" else 0)
        if self.dtype == "bf16" or case.weightless and self.activation == "bf16":
            cost += case.of("products", output) * ROUNDING["bf16"]
        cost *= 2.5
        if self.row and case.of("products", output):
            cost += sum(0.15 * width**-0.5 for width in case.widths)
        return cost


def modes(case, weights, i):
    """The modes of case i: all of fp32, fp16 and bf16; int8 takes turns.  The largest products only as upstream has them, and int8."""
    for m in (m for m in MODES if m[0] in case.only):
        if m[0] == "int8":
            turn = MODES.index(m) - 3
            if case.flop > LARGE:
                if turn or not weights:
                    continue
            elif weights and (i - turn) % (9 if turn else 3):
                continue
            elif not weights and (turn > 2 or (i - 3 * turn) % 9):
                continue
        if m[0] == "fp32" and case.flop > LARGE:
            continue
        yield Mode(m[0], m[1] if len(m) > 1 else m[0], len(m) > 2, i)


def resolved(specs, mode):
    """Inputs as a mode stores them."""
    out = {}
    for name, spec in specs.items():
        kind = spec["dtype"]
        spec = dict(spec)
        if kind == "W":
            groups, n, lead = spec.pop("groups"), spec.pop("columns"), spec.pop("lead")
            if mode.dtype == "int8":
                scale, at = spec["scale"], max([g for g in range(1, n + 1) if n % g == 0 and g <= groups(mode.index, n)], default=1)
                out[name] = codes(*spec["shape"])
                # 73.9 is the standard deviation of the codes.
                out[name + "_scale"] = uniform(*lead, at, scale=scale / 150, offset=scale / 74, dtype="fp32")
                continue
            # Of the narrower matrices that fp32 takes, each in its turn.
            narrower = ("fp32", "fp32", "fp16", "fp32", "bf16")[mode.index % 5]
            spec["dtype"] = mode.dtype if mode.dtype != "fp32" else narrower
        elif kind == "A":
            spec["dtype"] = mode.activation
        elif kind in "VM":
            spec["dtype"] = mode.activation if mode.index % 2 == 0 else "fp32"
        out[name] = spec
    return out


def weight(c, k, n, scale, lead=()):
    """[.., k, n], or [.., n, k] when transposed; as int8 with a scale for each column, for a few, or for all of them."""
    spec = normal(*lead, *((n, k) if c.get("transposed_mode") else (k, n)), scale=scale, dtype="W")
    return dict(spec, columns=n, lead=list(lead), groups=lambda i, n: (n, n, n // 2 or 1, 1)[i % 4])


def vector(n, scale=1.0):
    return normal(n, scale=scale, dtype="V")


def around_one(n):
    """A gamma."""
    return uniform(n, scale=0.5, offset=1.0, dtype="V")


def elements(specs):
    return sum(math.prod(s["shape"]) for s in specs.values())
