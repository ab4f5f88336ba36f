# Operators on files.  The numbers of the files here are small, so that they can be read.
npy() { python3 - "$@" <<'PY'
import struct, sys
name, descr, shape, *values = sys.argv[1:]
shape = tuple(int(x) for x in shape.split(",") if x)
code = {"<f4": "f", "<f2": "e", "|i1": "b", "<i4": "i", "<i8": "q", "|b1": "?"}[descr]
values = [float(v) if code in "fe" else int(v) for v in values]
head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}"
head += " " * (-(len(head) + 11) % 64) + "\n"
with open(name, "wb") as f:
    f.write(b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + struct.pack(f"<{len(values)}{code}", *values))
PY
}
show() { python3 - "$@" <<'PY'
import ast, struct, sys
for name in sys.argv[1:]:
    data = open(name, "rb").read()
    n = struct.unpack("<H", data[8:10])[0]
    head = ast.literal_eval(data[10:10 + n].decode())
    assert not (10 + n) % 64
    print(name, head["descr"], head["shape"], *(f"{x:.6g}" for x in struct.unpack(f"<{(len(data) - 10 - n) // 4}f", data[10 + n:])))
PY
}
t op --help
t op qkv_gemm --help
for op in softmax softmax_context mlp attention layer moe; do
    "$TERN" op $op --help | sed -n '/^'$op':/,$p'
done
"$TERN" info --ops | grep -E '^(operator|qkv_gemm|linear) ' | grep -E 'device| fp32  ' | sed "s/_f32_[a-z0-9]*/_f32_ISA/g"
"$TERN" info --ops --json | python3 -c 'import json, sys; print(sorted(json.load(sys.stdin)["operators"][0]))'
t info --ops "$TINY"
npy x.npy '<f4' 1,2,3 1 2 3 4 5 6
npy w.npy '<f4' 3,2 1 0 0 1 1 1
npy wt.npy '<f2' 2,3 1 0 1 0 1 1
npy b.npy '<f4' 2, 10 20
F="--set dtype=fp32"
t op linear $F --in input=x.npy --in weight=w.npy --in bias=b.npy --out output=y.npy
show y.npy
t op linear $F --set transposed_mode=true --in input=x.npy --in weight=wt.npy --out output=y.npy
show y.npy
echo '{"dtype": "fp32", "norm_type": "RMSNorm", "epsilon": 0.5, "kernel": "reference"}' >c.json
npy g.npy '<f4' 3, 1 1 1
t op qkv_gemm --config c.json --in input=x.npy --in weight=w.npy --in gamma=g.npy --out output=y.npy --out norm=n.npy
show y.npy n.npy
# Masks: bool, integers, and what is added.  A row that sees nothing is zeros.
npy s.npy '<f4' 1,1,2,3 1 2 3 1 1 1
npy m.npy '|b1' 2,3 1 0 1 0 0 0
npy i.npy '<i8' 1,3 0 1 0
npy a.npy '<f4' 1,1,1,3 0 0 -1e4
t op softmax $F --in scores=s.npy --in mask=m.npy --out output=y.npy
show y.npy
t op softmax $F --set invert_mask=false --in scores=s.npy --in mask=i.npy --out output=y.npy
show y.npy
t op softmax $F --set causal=true --set layer_scale=0.5 --in scores=s.npy --in mask=a.npy --out output=y.npy
show y.npy
# One query after two others: all at once, and with a past.
A="$F --set hidden_size=2 --set heads=1 --set rotary_dim=2"
npy all.npy '<f4' 1,3,6 1 0 1 0 1 2 0 1 0 1 3 4 1 1 1 1 5 6
npy first.npy '<f4' 1,2,6 1 0 1 0 1 2 0 1 0 1 3 4
npy last.npy '<f4' 1,1,6 1 1 1 1 5 6
t op softmax_context $A --in qkv=all.npy --out output=y.npy --out key=k.npy --out value=v.npy
show y.npy k.npy v.npy
t op softmax_context $A --in qkv=first.npy --out key=pk.npy --out value=pv.npy
t op softmax_context $A --in qkv=last.npy --in past_key=pk.npy --in past_value=pv.npy --out output=y.npy --out key=k2.npy --out value=v2.npy
show y.npy
cmp k.npy k2.npy
cmp v.npy v2.npy
npy m.npy '<i4' 1,3 1 0 1
t op softmax_context $A --set causal=false --in qkv=all.npy --in attn_mask=m.npy --out output=y.npy
show y.npy
# What cannot be: 2 for the command line, 1 for files, 3 for what is not there.  No output is touched.
cp y.npy before.npy
I="--in input=x.npy --in weight=w.npy"
t op
t op linear
t op linar $I --out output=y.npy
t op linear $F $I
t op linear $F $I --out outputs=y.npy
t op linear $F $I --in inputs=x.npy --out output=y.npy
t op linear $F $I --in input=x.npy --out output=y.npy
t op linear $F --in input=x.npy --out output=y.npy
t op linear $F --in input --out output=y.npy
t op qkv_gemm $F $I --in gamma=g.npy --out output=y.npy --out norm=y.npy
t op linear --set $I --out output=y.npy
t op linear --set dtype=fp33 $I --out output=y.npy
t op linear --set detype=fp32 $I --out output=y.npy
echo '{"hiden_size": 1}' >bad.json
t op linear --config bad.json $I --out output=y.npy
t op linear --config missing.json $I --out output=y.npy
t op qkv_gemm $F --set epsilon=-1 $I --in gamma=g.npy --out output=y.npy
t op qkv_gemm $F --set norm_type=RMSNorm --set pre_layer_norm=false $I --in gamma=g.npy --out output=y.npy
t op linear $F --in input=x.npy --in weight=x.npy --out output=y.npy
t op linear $F --in input=w.npy --in weight=w.npy --out output=y.npy
t op linear $F --in input=wt.npy --in weight=w.npy --out output=y.npy
t op linear $F --in input=c.json --in weight=w.npy --out output=y.npy
t op linear $F --in input=missing.npy --in weight=w.npy --out output=y.npy
head -c 140 x.npy >cut.npy
t op linear $F --in input=cut.npy --in weight=w.npy --out output=y.npy
sed 's/False/True /' x.npy >fortran.npy
t op linear $F --in input=fortran.npy --in weight=w.npy --out output=y.npy
sed 's/<f4/>f4/' x.npy >big.npy
t op linear $F --in input=big.npy --in weight=w.npy --out output=y.npy
t op linear $F $I --out output=missing/y.npy
t op softmax_context $A --in qkv=last.npy --in past_key=pk.npy --out output=y.npy
t op softmax_context $A --in qkv=last.npy --in past_key=s.npy --in past_value=pv.npy --out output=y.npy
npy h.npy '<f4' 1,2,3,3 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
t op softmax_context $A --in qkv=all.npy --in mask=h.npy --out output=y.npy
t op linear --set dtype=fp16 $I --out output=y.npy
npy q.npy '|i1' 3,2 1 0 0 1 1 1
t op linear --set dtype=int8 --set activation_dtype=fp32 --in input=x.npy --in weight=q.npy --out output=y.npy
t op linear $F --in input=x.npy --in weight=q.npy --in weight_scale=b.npy --out output=y.npy
sed 's/<f4/<f8/' x.npy >double.npy
t op linear $F --in input=double.npy --in weight=w.npy --out output=y.npy
t op layer --set use_rts=1 --in input=x.npy --out output=y.npy
t op moe $F --set hidden_size=3 --set global_experts=2 --set noisy_gate_policy=RSample --in input=x.npy --in gate_w=w.npy --in inter_w=w.npy --in output_w=w.npy --out output=y.npy
t op fp16_matmul --set dtype=bf16 --in a=x.npy --in b=w.npy --out output=y.npy
t op workspace --set hidden_size=64 --set heads=4
cmp y.npy before.npy && ls -A
