# A place that takes no output: an error, and nothing half-written.
t logits "$TINY" --ids 1,2,3 -o /dev/full
t logits "$TINY" --ids 1,2,3 -o .
t logits "$TINY" --ids 1,2,3 -o missing/x.npy
echo "as it was" >old.npy
(ulimit -f 1; t logits "$TINY" --ids 1,2,3 -o old.npy; t logits "$TINY" --ids 1,2,3 -o new.npy)
cat old.npy
ls -A
for command in "tokenize $MODEL -p a" "run $MODEL -p ROMEO: -n 3 -q" "run $MODEL -p ROMEO: -n 3 -q --json" "info" "--help"; do
    "$TERN" $command >/dev/full 2>err
    echo "tern $command >/dev/full: exit $?"
    cat err
done
# Closed streams: no file takes their place, and who writes nothing to stdout does not miss it.
"$TERN" info >&- 2>err
echo "tern info >&-: exit $?"
cat err
"$TERN" logits "$TINY" --ids 1,2,3 -o closed.npy <&- >&- 2>&-
echo "tern logits -o closed.npy <&- >&- 2>&-: exit $?"
"$TERN" tokenize "$MODEL" <&- 2>err
echo "tern tokenize <&-: exit $?"
cat err
rm closed.npy
t logits "$TINY" --ids 1,2,3 -o x.npy
ln -s x.npy link.npy
chmod 640 x.npy
t logits "$TINY" --ids 4,5 -o link.npy
stat -c '%A %s %N' x.npy link.npy
ln -s later.npy early.npy
mkdir folder
ln -s ../early.npy folder/first.npy
t logits "$TINY" --ids 4,5 -o folder/first.npy
stat -c '%N' folder/first.npy early.npy later.npy
rm -r folder early.npy later.npy
"$TERN" logits "$TINY" --ids 4,5 -o - | cmp - x.npy && echo "- is stdout"
"$TERN" logits "$TINY" --ids 4,5 -o /dev/stdout | cmp - x.npy && echo "/dev/stdout is stdout"
# A name that is not UTF-8, in JSON.
ln -s "$TINY" $'a\xffb\xed\xa0\x80\xc3\xa9'
"$TERN" info $'a\xffb\xed\xa0\x80\xc3\xa9' --json | grep -o '"path":"[^"]*"'
rm -f a*
rm -f .out .err err
ls -A
