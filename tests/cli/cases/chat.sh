# Conversations: rendered, and answered.
mkdir m bare named
cp "$MODEL"/*.json "$MODEL"/model.safetensors m
cp "$MODEL"/tokenizer.json bare
sed 's/^{/{"chat_template": "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}\\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}",/' \
    "$MODEL/tokenizer_config.json" >m/tokenizer_config.json
echo '[{"role": "user", "content": "Hi \u00e9"}]' >hi.json
t template m -f hi.json
t template m -f hi.json --no-generation-prompt
t template m <hi.json
t template m --list
t template m -f missing.json
t template m -f .
t template missing -f hi.json
t template -f hi.json
t template bare -f hi.json
t chat bare
# named ones, tools, variables
mkdir named/additional_chat_templates
echo 'plain {{ messages | length }} {{ x }} {{ y.z[0] }}' >named/chat_template.jinja
echo 'tools: {{ tools | map(attribute="name") | join(",") }}' >named/additional_chat_templates/tool_use.jinja
echo '{{ broken' >named/additional_chat_templates/broken.jinja
echo '[{"name": "a"}, {"name": "b"}]' >tools.json
t template named --list
t template named -f hi.json --set x=1.5 --set 'y={"z":["q"]}'
t template named -f hi.json --tools tools.json
t template named -f hi.json --tools tools.json --name default
t template named -f hi.json --name broken
t template named -f hi.json --name nothing
t template named -f hi.json --set x
t template named -f hi.json --set x=nonsense
t template named -f hi.json --set messages=1
t template named -f hi.json --tools hi2.json
echo '{"role": 1}' >object.json
t template named -f object.json
echo '[{"role": "user", "content": ]' >broken.json
t template named -f broken.json
# what a template can do wrong
one() {
    printf '%s' "$1" >one.jinja
    t template m -f hi.json --template one.jinja
}
one '{{ messages[0].content ~ "!" }}'
one '{{ raise_exception("No " ~ messages[0].role ~ " here") }}'
one '{% if x %}
{{ y | nonesuch }}{% endif %}'
one '{% include "x" %}'
one '{{ nothing.at.all }}'
one '{{ 1 + "a" }}'
one '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}'
one '{% for i in range(9999) %}{{ "x" * 9999 }}{% endfor %}'
one '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'
one '{{ "\ud800" }}'
# answers
chat() { printf '%s\n' "$@" | t chat m --temp 0 -n 8 -q --threads 1; }
chat 'ROMEO: good morrow' '/show' '/nope'
chat '/retry'
printf 'Hi\n' | t chat m --temp 0 -n 0 --print-prompt --system Short. -q
printf 'Hi\n' | t chat m --temp 0 -n 4 -q --stop ''
printf 'Hi\n' | t chat m -f hi.json
