"""Compares token ids and chat templates. Called by check-tokenizers.

usage: check_tokenizers.py PROGRAM WORK_FOLDER MODEL_FOLDER...
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

AWKWARD = {
    "empty": "",
    "one space": " ",
    "emoji": "clocks ⏱️🕰️ and a family 👨‍👩‍👧‍👦 with skin 👍🏽",
    "CJK": "干涉仪测量微小的差别。干渉計は小さな違いを測る。간섭계",
    "right to left": "مقياس التداخل and מד התאבכות mixed",
    "combining": "e\u0301 versus \u00e9, n\u0303, \u1e9b\u0323",
    "CRLF": "first\r\nsecond\r\n\r\nthird\rfourth\n",
    "long spaces": "a" + " " * 500 + "b" + "\t" * 70 + "c" + "\n" * 90 + "d  \n  \n e",
    "control": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f\u200b\u200d\u2028\u2029\ufeff",
    "nul": "a\x00b",
    "no-break": "10\u00a0ms\u202f5\u2009µs",
    "digits": "3.14159 1,000,000 1e-9 ٣٤٥ ⅷ ²",
    "contractions": "It's they'RE we'll I'D 'twas rock'n'roll ''s",
    "special": "<|im_start|>user\nhi<|im_end|><|endoftext|> <|im_start|<|im_end|>|> <|begin_of_text|>x",
    "private and last": "\ue000\U0010ffff\U0001f9ff\ufffd",
    "code": "def f(x):\n    return {'a': [x**2, ~x]}  # ok\n\n\n\tif x!=3:\n",
}

QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}{{- tools | tojson }}{{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

LLAMA = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = "01 " ~ "Jan 2026" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- else %}
        {{- raise_exception("This model only supports single tool-calls at once!") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{ bos_token }}
  {% for message in loop_messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must alternate') }}
    {% endif %}
  {%- if message.role == 'user' -%}
      [INST] {% if loop.last and system_message is defined %}{{ system_message + '\\n\\n' }}{% endif %}{{ message.content }} [/INST]
  {%- else -%}
      {{ ' ' ~ message.content.strip().title() ~ eos_token }}
  {%- endif %}
  {% endfor %}
"""

JSON = """{% for m in messages %}
{{ m | tojson }} {{ [1, 2.5, true, none, "é<>&'", {"a": {}}] | tojson(indent=2) }} {{ {'b': [], 'a': ()} | tojson }}
{% endfor %}"""

CONVERSATIONS = [
    [("user", "Which arm is longer?")],
    [("system", " Be brief. \n"), ("user", " hello\n"), ("assistant", "<think>\nhm\n</think>\n\nhi {{ there }}"), ("user", "ok <b>&'\"")],
    [("user", "<tool>x</tool>"), ("assistant", "a\\n'b'"), ("user", "日本語 👍🏽\t\x01")],
    [("system", "s"), ("assistant", "first to speak")],
]


def run(*arguments):
    result = subprocess.run(arguments, capture_output=True)
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def check_ids(program, work, folder):
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = dict(AWKWARD)
    for prompt in sorted(Path("scenarios/prompts").glob("*.txt")):
        texts[prompt.name] = prompt.read_bytes().decode()
    texts["random"] = random_text()
    count = 0
    for name, text in texts.items():
        file = work / "text"
        file.write_bytes(text.encode())
        for plain in (False, True):
            expected = reference.encode(text, add_special_tokens=not plain).ids
            code, out, error = run(program, "model", "encode", folder, "--text-file", file, *(["--plain"] if plain else []))
            if code != 0:
                sys.exit(f"{folder.name}, {name}: {error}")
            found = json.loads(out)
            if found != expected:
                at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
                sys.exit(f"{folder.name}, {name}: ids differ at {at}: {found[at:at + 8]} here, {expected[at:at + 8]} in Python")
            count += len(found)
    return len(texts), count


def random_text():
    """Characters of every plane, mixed with words and spaces."""
    generator = random.Random(7)
    ranges = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0xDFF), (0x2000, 0x2BFF),
              (0x3000, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF)]
    pieces = []
    for _ in range(20_000):
        pieces.append(chr(generator.randint(*generator.choice(ranges))))
        if generator.random() < 0.3:
            pieces.append(generator.choice([" ", "  ", "\n", "\r\n", "the", "'s", "measure", "\t"]))
    return "".join(pieces)


def python_environment():
    """Jinja as transformers/utils/chat_template_utils.py configures it."""

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: "unused"
    return environment


def check_templates(program, work, templates):
    environment = python_environment()
    folder = work / "template"
    folder.mkdir()
    count = 0
    for name, (template, begin) in templates.items():
        config = {"chat_template": template, "bos_token": begin, "eos_token": {"content": "</s>", "special": True}}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        values = {"eos_token": "</s>", "tools": None, "documents": None} | ({"bos_token": begin} if begin else {})
        for conversation in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in conversation]
            (work / "messages.json").write_text(json.dumps(messages), encoding="utf-8")
            for prompt in (True, False):
                try:
                    expected = environment.from_string(template).render(messages=messages, add_generation_prompt=prompt, **values)
                except jinja2.exceptions.TemplateError as error:
                    expected = error
                flag = [] if prompt else ["--no-generation-prompt"]
                code, out, error = run(program, "model", "render", folder, "--messages-file", work / "messages.json", *flag)
                out = json.loads(out) if code == 0 else out
                refused = isinstance(expected, Exception)
                if refused != (code != 0) or (refused and str(expected) not in error) or (not refused and out != expected):
                    sys.exit(f"template {name}, {messages}:\n here   {out!r} {error}\n Python {expected!r}")
                count += 1
    return count


def main():
    program, work, *folders = sys.argv[1:]
    program, work = str(Path(program).resolve()), Path(work)
    templates = {"qwen": (QWEN, None), "llama": (LLAMA, "<|begin_of_text|>"), "mistral": (MISTRAL, "<s>"), "json": (JSON, None)}
    for folder in map(Path, folders):
        texts, ids = check_ids(program, work, folder)
        print(f"{folder.name}: {texts} texts, {ids} ids, all equal")
        config = folder / "tokenizer_config.json"
        if config.exists():
            config = json.loads(config.read_text(encoding="utf-8"))
            if isinstance(config.get("chat_template"), str):
                begin = config.get("bos_token")
                templates[folder.name] = (config["chat_template"], begin if isinstance(begin, (str, type(None))) else begin["content"])
    print(f"chat templates: {len(templates)} templates, {check_templates(program, work, templates)} texts, all equal")


main()
