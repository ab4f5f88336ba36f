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
for layer in 0 1; do
    cp -r "$S/mean" "changed$layer"
    python3 - "$layer" <<'EOF'
import json, struct, sys
layer = sys.argv[1]
path = "changed" + layer + "/model.safetensors"
data = bytearray(open(path, "rb").read())
size = struct.unpack("<Q", data[:8])[0]
begin, end = json.loads(data[8:8 + size])["encoder.layer." + layer + ".output.dense.weight"]["data_offsets"]
for at in range(8 + size + begin, 8 + size + end, 4):
    data[at + 3] ^= 0x80
open(path, "wb").write(data)
EOF
    t verify "changed$layer" --dtype fp32
done
