"""Renders chat templates here and in Python and counts the differences. Called by check-tokenizers.

usage: check_templates.py PROGRAM WORK_FOLDER [TEMPLATE.jinja...]

Where llama_cpp is installed, the templates that it brings are rendered too.

Python's side is set up as transformers/utils/chat_template_utils.py sets it up, with the date that templates get here.
"""

import datetime
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

import template_corpus as corpus

NUMBER = r"(n|neg|f|z|third|yes|3|-2|0\.5)"

#: What is known to differ: a reason, as docs/guides/models.md gives it, and the expressions or statements.
#: A difference that is not here fails the check.
KNOWN = [
    ("tuples, and what items, keys, dictsort, groupby and partition give, are lists", [
        r"\[\w+, \(\w+,\)\]\|string", r".*\.r?partition\('.'\)", r"(nested|d)\.(items|keys)\(\)(\|list)?", r"d\|items\|list", r"d\|dictsort.*",
        r"people\|groupby\('age'\)\|list", r"\(1, 2\) \+ \(3,\)", r"\(1?,?\)", r"\(1, 2\) == \[1, 2\]", r"\[1\] \+ \(2,\)", r"{% set a = 1, %}.*"]),
    ("range and generators are lists", [
        r"range\(3\)", r"\(range\(2\)\)\|tojson", r"\(?xs\|map\('abs'\).*", r"{% set o = xs\|map.*", r"{% if people\|selectattr.*"]),
    ("outside of {{ }}, |string, |join and |tojson, lists and maps that the template made have double quotes, and floats no exponent", [
        r"(tiny|big) ~ .*", r"(tiny|big)\|(upper|trim)", r"'%s' % {'a': \[1\]}"]),
    ("% and format lack %r, *, !r, {:%} and nested fields; {} writes a float with six digits and True as such; too many values are ignored", [
        r"'%s\|%r' % .*", r"'{:\.2f}.*", r"'{:d}.*\(yes, .*", r"'{}'\.format\(third\)", r"'%s' % \('a', 'b'\)", r"'%\*d' .*", r"'{!r}.*",
        r"'{:>{}}'.*", r"'%d' % 3\.99"]),
    ("not offered, an error: some filters, methods, functions, arguments and statements", [
        r".*\|(truncate|wordcount|striptags|center|urlencode)(\(.*\))?", r".*\.(istitle|isidentifier|expandtabs|encode)\(4?\)",
        r".*\.(find|startswith)\('.', \d\)", r".*\|round\(1, 'floor'\)", r"names\|unique\(true\)\|list", r"people\|(sum|max)\(attribute='age'\)",
        r"xs\|sum\(start=10\)", r"xs\.0\.1", r"dict\(\[.*", r"(lipsum|self) is defined", r".*(joiner|cycler)\(.*", r"{% print .*", r".*{{ varargs }}.*",
        r"{% set \(a, b\) = 'xy' %}.*"]),
    ("arithmetic: division by zero gives inf, // and % round otherwise for negative numbers, true is no number in comparisons and signs, "
     "** takes no negative exponents, round does not round half to even, whole numbers have 64 or 128 bits, no complex numbers", [
        r".+ (/|//|%) (z|0)", r".+ (//|%) (neg|-2|-3)", r"(neg|-2|-7\.5) % (f|third|0\.5|2)", r".+ \*\* (neg|-2|-1)", r"n \*\* n", r"(neg|-2) \*\* (f|third|0\.5)",
        r"-2 \*\* [a-z0-9.]+", r"\[%s \+ yes, .*" % NUMBER, r"\[yes \+ .*", r"-(yes|no)", r"-?(f|2\.5)\|round", r"2\.675\|round\(2\)", r"1e22\|int", r"yes\|float"]),
    ("less is refused: comparisons of different types, none as a list, texts made of numbers by join, underscores in namespaces, any key", [
        r"[\w']+ < [13]", r"nil(\|reverse)?\|list", r"nil\|join\('-'\)", r"nil\[.*:.*\]", r"3 in 'abc'", r"{\[1\]: 2}", r".*\.join\(mixed\)", r"{% set ns = namespace\(_x=1\) %}",
        r"{1: 'x', none: 'y', true: 'z'}", r"mixed\|sort"]),
    ("some letters with special cases, and separators beyond ASCII", [
        r"\(uni\)\.(title|capitalize|casefold)\(\)", r"uni\|capitalize", r"'a\\u2028b.*", r"'\\x1c x.*", r"'\\ud800' == ''"]),
    ("the step -1 through something empty is an error", [r"(empty|void)\[::-1\]"]),
    ("macros: a default cannot name another argument, and no macro is callable", [r"{% macro m\(a, b=2, c=a\).*", r".*m is callable.*"]),
    ("strftime: no flag #, and %q", [r".*%q.*"]),
    ("the condition of a loop is tried for all items before the first turn", [r"{% set ns = namespace\(n=0\) %}{% for .*"]),
    ("pprint does not sort keys or break lines; attr reads items too", [r"(d|nested|people)\|pprint", r"d\|attr\('a'\)"]),
]


class Generation(Extension):
    """`{% generation %}`: the block is rendered as it is, in a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _support(self, context, caller):
        return caller()


class TemplateDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


class TemplateNamespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            TemplateNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        TemplateNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError("underscore-prefixed attributes")


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = datetime.datetime(2026, 1, 1).strftime
    made.globals["dict"] = TemplateDict()
    made.globals["namespace"] = TemplateNamespace
    return made


def seen(message):
    """A message as apply_chat_template shows it to the template."""
    message = {key: value for key, value in message.items() if value is not None}
    reasoning = next((message[key] for key in ("reasoning_content", "thinking", "reasoning") if message.get(key) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


class Check:
    def __init__(self, program, work):
        self.program, self.work, self.environment = program, work, environment()
        self.counts, self.different, self.known = {}, [], {}

    def here(self, number, template, chat, prompt):
        folder = self.work / f"template-{number}"
        folder.mkdir(exist_ok=True)
        config = {"chat_template": template, "bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / "chat.json").write_text(json.dumps(chat), encoding="utf-8")
        flag = [] if prompt else ["--no-generation-prompt"]
        arguments = [self.program, "model", "render", folder, "--messages-file", folder / "chat.json", *flag]
        result = subprocess.run(arguments, capture_output=True)
        if result.returncode == 0:
            return json.loads(result.stdout.decode()), ""
        return None, result.stderr.decode()

    def there(self, template, chat, prompt):
        values = {"bos_token": "<s>", "eos_token": "</s>"} | chat.get("template_arguments", {})
        messages = [seen(message) for message in chat["messages"]]
        try:
            made = self.environment.from_string(template)
            return made.render(messages=messages, tools=chat.get("tools"), documents=None, add_generation_prompt=prompt, **values), ""
        except RecursionError:
            return None, "recursion"
        except Exception as error:
            return None, f"{type(error).__name__}: {error}"

    def compare(self, kind, jobs):
        """`jobs`: name, template, chat, generation prompt."""
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda job: self.here(job[0], *job[1][1:]), enumerate(jobs)))
        refused = listed = 0
        for (name, template, chat, prompt), (here, problem) in zip(jobs, found):
            there, reason = self.there(template, chat, prompt)
            refused += there is None
            raised = reason.partition("TemplateError: ")[2]
            same = here == there and (not raised or raised in problem)
            if there is not None and here is not None and corpus.NORMAL.search(there):
                same = True
            known = next((reason for reason, patterns in KNOWN if any(re.fullmatch(one, name, re.S) for one in patterns)), None)
            if not same and known and ("panicked" not in problem or "step -1" in known):
                self.known[known] = self.known.get(known, 0) + 1
                listed += 1
            elif not same:
                self.different.append(f"{kind}: {name}\n  here   {here!r} {problem.strip()}\n  Python {there!r} {reason}")
        self.counts[kind] = (len(jobs), refused, listed)


def published():
    """Templates of models as llama_cpp has them, by name."""
    try:
        from llama_cpp import llama_chat_format
    except ImportError:
        return {}
    return {name: text for name, text in vars(llama_chat_format).items() if name.endswith("_CHAT_TEMPLATE") and isinstance(text, str)}


def main():
    program, work, *own = sys.argv[1:]
    check = Check(str(Path(program).resolve()), Path(work))
    templates = corpus.templates() | published() | {Path(path).name: Path(path).read_text(encoding="utf-8") for path in own}
    jobs = [(f"{name}, {chat}, {prompt}", template, corpus.CHATS[chat], prompt)
            for name, template in templates.items() for chat in corpus.CHATS for prompt in (True, False)]
    check.compare("templates", jobs)
    chat = {"messages": [{"role": "user", "content": "hi"}], "template_arguments": corpus.VALUES}
    check.compare("expressions", [(text, "{{ " + text + " }}", chat, True) for text in corpus.expressions()])
    check.compare("statements", [(text, text, chat, True) for text in corpus.STATEMENTS])
    for kind, (count, refused, listed) in check.counts.items():
        different = sum(one.startswith(kind) for one in check.different)
        print(f"chat templates, {kind}: {count} compared, {refused} of them errors in Python, {listed} different as listed, {different} otherwise")
    for reason, count in sorted(check.known.items(), key=lambda item: -item[1]):
        print(f"  known to differ, {count}: {reason}")
    print("\n".join(check.different[:200]))
    sys.exit(bool(check.different))


main()
