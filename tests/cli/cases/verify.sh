# A checkpoint held against its golden, against one that is not its own, and without any.
S=$SOURCE/tests/golden/sentences
t verify "$S/mean" --dtype fp32
"$TERN" verify "$S/mean" >all; echo "exit $?"
grep -c golden all
"$TERN" verify "$S/mean" --json | tr '{' '\n' | grep -c '"same":true'
t verify "$S/max-norm" --golden "$S/mean/golden.safetensors" --dtype fp32
t verify "$S/cls-dense" --golden "$S/mean/golden.safetensors"
t verify "$TINY"
t verify "$S/mean" --golden nowhere
head -c 3000 "$S/mean/golden.safetensors" >cut.safetensors
t verify "$S/mean" --golden cut.safetensors
t verify "$S/mean" --golden "$S/mean/model.safetensors"
# One layer's weights are others: that layer is named.
cp -r "$S/mean" changed
python3 - <<'EOF'
import json, struct
data = bytearray(open("changed/model.safetensors", "rb").read())
size = struct.unpack("<Q", data[:8])[0]
begin, end = json.loads(data[8:8 + size])["encoder.layer.0.output.dense.weight"]["data_offsets"]
for at in range(8 + size + begin, 8 + size + end, 4):
    data[at + 3] ^= 0x80
open("changed/model.safetensors", "wb").write(data)
EOF
t verify changed --dtype fp32
