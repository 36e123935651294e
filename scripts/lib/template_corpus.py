"""Chat templates and expressions that check_templates.py renders here and in Python.

The templates are written for this check. They use what templates of published models use.
"""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "templates"


def templates():
    """Name and source of every template."""
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.jinja"))}


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Look up the weather.\nOnly for today.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city, like Köln"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": ["integer", "null"], "default": 3},
                "at": {"type": "array", "items": {"type": "number"}},
            },
            "required": ["city"],
        },
        "return": {"type": "string", "description": "A sentence"},
    },
}
CLOCK = {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, number=1, text=False):
    arguments = json.dumps(arguments) if text else arguments
    return {"type": "function", "id": f"call{number:05}", "function": {"name": name, "arguments": arguments}}


def tool_round(text=False):
    return [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "Weather in Köln & Oslo? <now> 'quick'"},
        {"role": "assistant", "content": "", "reasoning_content": "Two cities.\nTwo calls.",
         "tool_calls": [call("get_weather", {"city": "Köln", "at": [1.0, 2.5e-7]}, 1, text)]},
        {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": "{\"sky\": \"grey\", \"t\": 7}"},
        {"role": "assistant", "content": "It is grey.", "thinking": None},
        {"role": "user", "content": "And Oslo?"},
        {"role": "assistant", "tool_calls": [call("get_weather", {"city": "Oslo", "unit": None, "n": 3}, 2, text)]},
        {"role": "tool", "tool_call_id": "call00002", "name": "get_weather", "content": "snow"},
    ]


CHATS = {
    "one": {"messages": [{"role": "user", "content": "Which arm is longer?"}]},
    "system": {"messages": [
        {"role": "system", "content": " Be brief. \n"}, {"role": "user", "content": " hello\n"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nhi {{ there }}"},
        {"role": "user", "content": "ok <b>&'\""}]},
    "parts": {"messages": [
        {"role": "system", "content": [{"type": "text", "text": "s"}]},
        {"role": "user", "content": [{"type": "text", "text": " first "}, {"type": "text", "text": "second"}]}]},
    "odd": {"messages": [{"role": "user", "content": "<tool>x</tool>"}, {"role": "assistant", "content": "a\\n'b'"},
                         {"role": "user", "content": "日本語 👍🏽\t\x01\x7f"}]},
    "wrong order": {"messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "first to speak"}]},
    "tools": {"messages": [{"role": "user", "content": "hi"}], "tools": [WEATHER, CLOCK]},
    "no tools": {"messages": [{"role": "user", "content": "hi"}], "tools": []},
    "calls": {"messages": tool_round(), "tools": [WEATHER]},
    "calls in text": {"messages": tool_round(True), "tools": [WEATHER, CLOCK]},
    "calls without tools": {"messages": tool_round()},
    "two calls": {"messages": [
        {"role": "user", "content": "both"},
        {"role": "assistant", "content": None, "tool_calls": [call("now", {}, 1), call("get_weather", {"city": "a'b\"c"}, 2)]},
        {"role": "tool", "tool_call_id": "call00001", "name": "now", "content": "12:00"},
        {"role": "tool", "tool_call_id": "call00002", "name": "get_weather", "content": "sun"},
        {"role": "assistant", "content": "Noon and sun."}, {"role": "user", "content": "thanks"}], "tools": [CLOCK]},
    "thinking off": {"messages": [{"role": "user", "content": "hi"}], "template_arguments": {"enable_thinking": False}},
    "thinking on": {"messages": tool_round()[:6], "template_arguments": {"enable_thinking": True}},
    "effort": {"messages": tool_round()[:2], "tools": [WEATHER],
               "template_arguments": {"reasoning_effort": "high", "model_identity": "You are a test.",
                                      "builtin_tools": ["browser", "python"], "xml_tools": ["now"]}},
    "llama": {"messages": tool_round()[:2], "tools": [WEATHER],
              "template_arguments": {"builtin_tools": ["brave_search", "code_interpreter"], "tools_in_user_message": False}},
    "date": {"messages": [{"role": "user", "content": "hi"}], "template_arguments": {"date_string": "26 Jul 2024"}},
}

#: Values that expressions see.
VALUES = {
    "s": "  Hello, Wörld 'n' \"all\"\n", "w": "the quick  brown fox", "path": "a/b/c.tar.gz", "empty": "", "uni": "ﬁ ß İ 日本 👍🏽 e\u0301\u200b\xad",
    "n": 42, "neg": -7, "z": 0, "f": 2.5, "tiny": 1.5e-7, "big": 1e16, "third": 1 / 3, "yes": True, "no": False, "nil": None,
    "xs": [3, 1, 2], "names": ["bob", "Alice", "carol", "Bob"], "mixed": [1, "a", None, True, 2.0, [1, {"k": "v"}]], "void": [],
    "d": {"b": 2, "a": 1, "C": [1, 2]}, "nested": {"x": {"y": [{"z": "deep"}]}, "items": "mine", "é": "ü\u2028"}, "nothing": {},
    "people": [{"name": "Ann", "age": 31, "on": True}, {"name": "bob", "age": 25, "on": False}, {"name": "Cy", "age": 31, "on": True}],
}


def expressions():
    """Several hundred expressions over VALUES."""
    names = list(VALUES)
    all_of = []

    def add(*more):
        all_of.extend(more)

    add(*names)
    for name in names:
        tests = ["string", "number", "integer", "float", "boolean", "none", "sequence", "mapping", "iterable", "callable", "defined",
                 "undefined", "true", "false", "lower", "upper"]
        add(f"[{', '.join(f'{name} is {test}' for test in tests)}]")
        add(f"{name}|tojson", f"{name}|tojson(indent=2)", f"[{name}, ({name},)]|string", f"{name} ~ '|' ~ {name}", f"{name}|string|length",
            f"{name}|default('x', true)", f"not {name}", f"{{'k': {name}}}|tojson(ensure_ascii=true, separators=(',', ':'))",
            f"'%s|%r' % ({name}, {name})", f"{name} == {name}", f"'{{}}'.format({name})", f"{name}|list", f"{name}|length", f"{name}|int",
            f"{name}|float", f"{name}|first", f"{name}|join('-')", f"{name}|pprint", f"{name} in mixed", f"{name}|upper", f"{name}|trim",
            f"{name}|escape", f"{name}|string|title", f"{name}|reverse|list", f"-{name}", f"{name} + 1", f"{name} * 2", f"{name}[0]",
            f"{name}.x", f"{name}['x']", f"{name}[1:]", f"{name}[::-1]", f"1 if {name}", f"{name} < 3")
    for text in ("s", "w", "path", "empty", "uni", "'-1.50'", "'+7'", "'x=1=2'", "'A b-c d'", "'tab\\there'"):
        for method in (
            "split()", "split('/')", "split(' ', 1)", "rsplit('.', 1)", "rsplit(None, 1)", "rsplit()", "split(maxsplit=1)", "splitlines()",
            "splitlines(true)", "partition('/')", "rpartition('.')", "removeprefix('a/')", "removesuffix('.gz')", "zfill(8)", "strip()",
            "lstrip('-+ H')", "rstrip('\\n\\\"')", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()",
            "replace('o', '0')", "replace('o', '0', 1)", "find('o')", "rfind('o')", "count('o')", "count('')", "startswith('a')",
            "startswith(('a', ' '))", "endswith('x')", "isdigit()", "isalpha()", "isalnum()", "isspace()", "isupper()", "islower()",
            "istitle()", "isascii()", "isidentifier()", "center(30, '*')", "center(31)", "ljust(30, '.')", "rjust(30)", "expandtabs(4)",
            "index('zz')", "join(['a', 'b'])", "join(mixed)", "find('o', 8)", "startswith('b', 2)", "encode()", "nosuch()", "split('')",
        ):
            add(f"({text}).{method}")
        for name in ("capitalize", "wordcount", "striptags", "indent", "indent(2, true, true)", "truncate(9)", "truncate(9, true, '~', 0)",
                     "center(30)", "urlencode", "replace('a', 'b')", "reverse", "first", "last", "list|length", "e", "trim('a ')", "nosuch"):
            add(f"{text}|{name}")
    for form in ("%5d|%-5d|%05d|%+d|% d", "%x|%X|%o|%#x|%i"):
        add(*[f"'{form}' % ({', '.join([value] * form.count('%'))})" for value in ("n", "neg", "z", "yes")])
    for value in ("f", "tiny", "big", "third", "n", "neg", "12345.678", "0.0", "-0.0", "1e22", "123456789.0", "100.0", "1e-5"):
        add(f"{value}", f"'%f|%.2f|%e|%.3e|%g|%.10g|%G|%8.1f|%-8.1f|%08.2f' % ({', '.join([value] * 10)})",
            f"'{{:.2f}}|{{:>10}}|{{:<10}}|{{:^11}}|{{:+}}|{{:e}}|{{:g}}|{{:,.1f}}|{{:%}}|{{:010.3f}}'.format({', '.join([value] * 10)})",
            f"{value}|round", f"{value}|round(1)", f"{value}|round(1, 'floor')", f"{value}|int", f"{value}|string", f"{value}|tojson", f"{value}|abs")
    for value in ("n", "neg", "z", "yes", "1000000", "1234567"):
        add(f"'{{:d}}|{{:5}}|{{:<5}}|{{:^5}}|{{:05d}}|{{:x}}|{{:#x}}|{{:b}}|{{:,}}|{{:_}}|{{:+}}|{{:e}}'.format({', '.join([value] * 12)})")
    numbers = ("n", "neg", "f", "z", "third", "yes", "3", "-2", "0.5")
    for a in numbers:
        for b in numbers:
            add(f"[{a} + {b}, {a} - {b}, {a} * {b}, {a} == {b}, {a} < {b}, {a} >= {b}]", f"{a} / {b}", f"{a} // {b}", f"{a} % {b}", f"{a} ** {b}")
    add(
        "'%(a)s-%(b)05.1f' % {'a': 1, 'b': 2}", "'%s' % mixed", "'%s' % ('a',)", "'%s %s' % ('a',)", "'%s' % ('a', 'b')", "'%d' % 'x'", "'100%' % ()",
        "'%%' % ()", "'%c%c' % ('a', 66)", "'%5s|%-5s|%.2s' % ('a', 'b', 'cde')", "'%*d' % (5, 3)", "'%q' % 1", "'%s %s'|format('a', 1)",
        "'%(x)s'|format(x=3)", "'{0} {1} {0}'.format('a', 'b')", "'{a.name} {b[0]} {c[x]}'.format(a=people[0], b=xs, c={'x': 1})",
        "'{!r} {!s} {{}}'.format('a', 'b')", "'{:>{}}'.format('a', 5)", "'{} {'.format(1)", "'{x}'.format(y=1)", "'{:*^9}'.format('mid')",
        "'{:.3}'.format('abcdef')", "'{:d}'.format('x')", "1 ~ 2.0 ~ none ~ true ~ [1] ~ {}", "'a' 'b' \"c\"", "'\\x41\\u00e9\\101\\q\\t|'", "1_000 + 0x1F + 0b11 + 0o17",
        "2 ** 3 ** 2", "-2 ** 2", "-f|abs", "1 + 2 ~ 3 * 4", "1 < 2 < 3", "3 > 2 > 2", "not true == false", "1 in xs and 4 not in xs", "'ell' in s", "'x' in nested", "3 in 'abc'",
        "missing", "missing.x", "missing is defined", "missing|default('d')", "nested.missing is defined", "nested.x.y[0].z", "nested.x.y.0.z", "nested['items']", "nested.items()|list",
        "nested.keys()|list", "d.values()|list|tojson", "d.items()", "d.keys()", "d.get('a')", "d.get('q')", "d.get('q', 5)", "d|items|list", "d|dictsort", "d|dictsort(true)",
        "d|dictsort(false, 'value')", "d|dictsort(reverse=true)|list", "d|length", "d|list", "d.pop('a')", "xs.append(4)", "d.update({})", "xs|sort", "xs|sort(reverse=true)",
        "names|sort", "names|sort(case_sensitive=true)", "names|unique|list", "names|unique(true)|list", "mixed|sort", "people|sort(attribute='age')|map(attribute='name')|list",
        "people|sort(attribute='age,name', reverse=true)|map(attribute='name')|join(', ')", "people|map(attribute='name')|map('upper')|list", "people|map(attribute='q', default='-')|list",
        "people|selectattr('on')|list|length", "people|selectattr('age', 'gt', 30)|map(attribute='name')|list", "people|rejectattr('name', 'equalto', 'bob')|list|tojson",
        "people|groupby('age')|list", "people|groupby('age')|map('first')|list", "people|sum(attribute='age')", "xs|sum", "xs|sum(start=10)", "xs|max", "xs|min", "names|max",
        "people|max(attribute='age')", "void|max", "void|first is defined", "xs|last", "xs|select('odd')|list", "xs|reject('odd')|list", "xs|select|list", "xs|map('string')|list",
        "xs|batch(2)|list", "xs|batch(2, 0)|list", "xs|slice(2)|list", "xs|slice(2, 0)|list", "(xs|map('abs'))|length", "xs|map('abs') is sequence", "xs|map('abs') is iterable",
        "range(3)", "range(1, 10, 3)|list", "range(5, 0, -2)|list", "range(3)|length", "range(3)[-1]", "range(100001)", "range(0, 3, 0)", "xs[1:]", "xs[-2:]", "xs[::2]", "xs[5:]", "w[2:9:2]",
        "w[::-1]", "w[-3]", "w[99]", "xs[99]", "xs['a']", "xs[none]", "xs[:-1]", "xs[1:none]", "xs.index(2)", "xs.count(1)", "xs.index(9)", "(1, 2) + (3,)", "[1] + [2]", "[1] + (2,)", "'a' + 1", "'ab' * 3",
        "3 * [0]", "[[]] * 2", "()", "(1,)", "{}", "{'a': 1, 'a': 2}", "{1: 'x', none: 'y', true: 'z'}", "{1: 2}|tojson", "{none: 1, true: 2, 1.5: 3}|tojson", "{[1]: 2}", "xs == [3, 1, 2]", "(1, 2) == [1, 2]",
        "1 == 1.0 == true", "[1, 2] < [1, 3]", "'a' < 'b'", "'a' < 1", "none < 1", "d == {'a': 1, 'b': 2, 'C': [1, 2]}", "mixed|tojson(sort_keys=true)", "d|tojson(sort_keys=true)", "d|tojson(indent=4)",
        "d|tojson(indent='\\t')", "nested|tojson(indent=1, sort_keys=true)", "d|tojson(separators=(',', ':'))", "d|tojson(separators=('; ', ' = '), indent=2)", "uni|tojson", "uni|tojson(ensure_ascii=true)",
        "void|tojson(indent=2)", "nothing|tojson(indent=2)", "missing|tojson", "[missing]|tojson", "(range(2))|tojson", "d.items()|list|tojson", "'\\x7f\\x1f\\\\/'|tojson", "'\\x7f\\x1f\\n\\\\'|pprint", "[\"it's\", 'say \"hi\"', 'bo\\'th\"']",
        "namespace(a=1).a", "namespace({'a': 2}).a", "dict(a=1, b=2)", "dict({'a': 1}, c=3)", "dict([('a', 1)])", "joiner(', ')()", "cycler('a', 'b').next()", "strftime_now('%Y')|int > 2000", "raise_exception('no')",
        "xs is sameas xs", "none is sameas none", "n is divisibleby 7", "n is even", "n is odd", "n is in xs", "1 is in(xs)", "n is eq 42", "n is ge(43)", "'map' is filter", "'nope' is filter", "'odd' is test", "n is nosuch",
        "xs|attr('append') is defined", "s|attr('upper') is callable", "d|attr('a')", "'<a href=\"x\">b</a> <!-- c --> d'|striptags", "'a & <b> \"c\" \\'d\\''|e", "'5'|int + '0x1f'|int(base=16)", "'x'|int(-1)", "'3.9'|int", "'1e3'|float", "'nan'|float",
        "3.7|round|int", "2.5|round", "3.5|round", "-2.5|round", "2.675|round(2)", "1234.5|round(-2)", "42|round(1)", "1.1 + 2.2", "0.1 * 3", "1e300 * 1e10", "7 // 2", "-7 // 2", "7 // -2", "-7 % 3", "7 % -3", "7.5 // 2", "-7.5 % 2", "1 / 0", "1 // 0", "1 % 0", "1.0 / 0",
        "10 ** 20", "2 ** -1", "2 ** 0.5", "true + true", "true ~ ''", "[true, false, none]", "'a,b'.split(',')|map('trim')|list", "'a b'|title", "'hello world-foo (bar)'|title", "'o\\'neil'|title", "'o\\'neil'.title()", "'ǆ'|title", "'İ'|lower|length",
        "'a\\u2028b\\x0bc'.splitlines()", "'\\x1c x \\x85'.strip()", "'\\ud800' == ''", "lipsum is defined", "loop is defined", "self is defined", "caller is defined", "(n if yes else f) + 1", "(1 if no) is defined", "'' if no", "n if no else f if yes else z", "xs|join(', ')|upper ~ '!'",
        "'a'.nosuch is defined", "n.x is defined", "nil.x is defined", "nil.x.y is defined", "d.a.b.c", "xs.0", "xs.0.1", "w.upper", "people|map(attribute='name')|sort|join", "[1, 2, 3]|map('multiply', 2)|list", "'%s' % none", "'%d' % 3.99", "'%s' % {'a': [1]}",
    )
    return list(dict.fromkeys(all_of))


#: Whole templates that show one thing each.
STATEMENTS = [
    "{% set ns = namespace(n=0) %}{% for x in xs if ns.n < 1 %}{{ x }}{% set ns.n = ns.n + 1 %}{% endfor %}",
    "{% generation %}a{% endgeneration %}b", "{%- generation -%}\n a \n{%- endgeneration -%}\n b", "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% for i in xs %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}", "{% for i in xs if i > 1 %}{{ i }}{{ loop.first }}{% else %}none{% endfor %}",
    "{% for i in void %}{{ i }}{% else %}none{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for a, b in [(1, 2), [3, 4]] %}{{ a + b }} {% endfor %}",
    "{% for a, b in xs %}{% endfor %}", "{% for i in n %}{% endfor %}", "{% for i in missing %}{{ i }}{% endfor %}", "{% for c in 'añb' %}[{{ c }}]{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in xs %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
    "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in xs %}{% for j in xs %}{{ loop.depth }}{{ loop.revindex0 }}{% endfor %}{% endfor %}",
    "{% for x in [[1, [2, []]], [3, []]] recursive %}{{ x[0] }}{% if x[1] %}({{ loop([x[1]]) }}){% endif %}{% endfor %}", "{% set x = 0 %}{% for i in xs %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(t=0) %}{% for i in xs %}{% set ns.t = ns.t + i %}{% endfor %}{{ ns.t }}", "{% set ns = namespace() %}{% set ns.a.b = 1 %}", "{% set d.a = 1 %}", "{% set ns = namespace(_x=1) %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set (a, b) = 'xy' %}{{ b }}{{ a }}", "{% set a = 1, %}{{ a }}", "{% set t %} hi {{ n }} {% endset %}[{{ t }}]", "{% set t | trim | upper %} hi {% endset %}[{{ t }}]",
    "{% if yes %}a{% elif no %}b{% else %}c{% endif %}{% if no %}a{% elif yes %}b{% endif %}{% if nil %}a{% else %}c{% endif %}", "{% if xs|length > 2 and 'a' in w or missing %}1{% endif %}", "{% if yes %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% with a = 1, b = n %}{{ a + b }}{% endwith %}{{ a is defined }}", "{% macro m(a, b=2, c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=1, a=2) }}", "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, x=4) }}", "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in{% endcall %}",
    "{% macro m() %}<{{ caller('x') }}>{% endmacro %}{% call(y) m() %}in {{ y }}{% endcall %}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro m() %}{{ z9 }}{% endmacro %}{% set z9 = 3 %}{{ m() }}", "{{ m is defined }}{% macro m() %}{% endmacro %}{{ m is callable }}{{ m.name }}", "{% macro m(l) %}{% for x in l %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}{% endmacro %}{{ m(xs)|upper }}",
    "{% filter upper %}abc {{ w }}{% endfilter %}", "{% filter replace('a', 'b')|trim %} aaa {% endfilter %}", "{% raw %}{{ x }}{% if %}{% endraw %}!", "{%- raw -%} \n {{ x }} {%- endraw -%} !", "a{# comment #}b", "a {#- c -#} b", "a\n  {# c #}\n  b",
    "a\n  {% if yes %}\n  b\n  {% endif %}\n  c\n", "a\n  {%+ if yes %}\n  b\n  {%- endif +%}\n  c\n\n", "  {{ n }}  \n  {{- n -}}  \n x", "{% if yes -%}\n\n  x\n{%- endif %}", "\n\n{% set x = 1 %}\n\n{{ x }}\n", "a\r\nb\r{% if yes %}\r\nc{% endif %}\r\n",
    "{% print n, f %}", "{% block title %}t{{ n }}{% endblock title %}", "{% autoescape false %}{{ '<' }}{% endautoescape %}", "{{ '{{' }}{{ '%}' }}{{ \"#}\" }}", "{{ {'a': {'b': 1}}['a']['b'] }}{{ {} }}", "{{ n", "{% if %}{% endif %}", "{% endif %}", "{% for %}{% endfor %}",
    "{% nosuch %}", "{{ 'a }}", "{{ n n }}", "{{ [1, 2 }}", "{{ (1 }}", "{% if yes %}", "{{ n is is n }}", "{{ f(a=1, 2) }}", "{{ 1 + }}", "{% set true = 1 %}", "{% macro m(a=1, b) %}{% endmacro %}", "{{ n|nosuch }}", "{{ missing() }}", "{{ n() }}", "{{ missing + 1 }}",
    "{% for m in people %}{{ m.name }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for m in people|sort(attribute='name') -%} {{ m['name'] }} {%- endfor %}", "{{- n -}} {%- set q = n -%} {{- q }}", "{% set x = joiner('|') %}{% for i in xs %}{{ x() }}{{ i }}{% endfor %}",
    "{% set c = cycler('odd', 'even') %}{% for i in xs %}{{ c.next() }}{% endfor %}{{ c.current }}", "{{ strftime_now('%c') }}|{{ strftime_now('%d %B %Y, %H:%M:%S %p %j %A %a %b %y %U %W %V %G %u %w %x %X %I %e %D %F %R %T %h %n%t%% %C %g %k %l %P %r %f %Z %z') }}",
    "{{ strftime_now('%-d/%-m/%y %_d %^a %#b %05d %3Y %q %') }}", "{% set ns = namespace(found=false) %}{% for m in people if m.age > 30 %}{% if not ns.found %}{{ m.name }}{% set ns.found = true %}{% endif %}{% endfor %}",
    "{% set x = [] %}{% for i in xs %}{% set _ = x.append(i) %}{% endfor %}{{ x }}", "{% set x = [] %}{% for i in xs %}{% set x = x + [i] %}{% endfor %}{{ x }}", "{% for i in xs %}{% if loop.index0 == 1 %}{% set y = i %}{{ y }}{% endif %}{% endfor %}{{ y is defined }}",
    "{{ people[0]['name'] ~ people[-1].name }}{{ people[0].get('q', {}).get('r') }}", "{% set o = xs|map('string') %}{{ o|join }}{{ o|join }}", "{% if people|selectattr('age', 'lt', 0) %}yes{% else %}no{% endif %}",
]

NORMAL = re.compile(r" at 0x[0-9a-f]+|<generator object .*?>|<bound method .*?>|<built-in method .*?>")
