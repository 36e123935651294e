//! The expected texts were made with Python's Jinja2 3.1.6, set up as in scripts/check-tokenizers,
//! which compares some thousand more.

use super::*;

fn render(source: &str) -> Result<String, String> {
    let render = |source| Template::parse(source, FUEL)?.render(Vec::new());
    render(source).map_err(|e| described(&e))
}

#[test]
fn templates_give_what_python_gives() {
    for (source, text) in [
        ("{% generation %}a{% set x = 2 %}{% endgeneration %}b{{ x is defined }}", "abFalse"),
        ("{{ ['a', 1, true, none, 2.0, {'k': [1]}, \"it's\"] }}", "['a', 1, True, None, 2.0, {'k': [1]}, \"it's\"]"),
        ("{{ [1e16, 1.5e-7, 0.1, 100.0, 1e22] }}", "[1e+16, 1.5e-07, 0.1, 100.0, 1e+22]"),
        ("{{ 'ü\\n\\x7f\\u200b'|pprint }}", "'ü\\n\\x7f\\u200b'"),
        (
            "{{ {'b': 1, 'a': [none, 1.5]}|tojson(sort_keys=true, separators=(',', ':')) }}",
            "{\"a\":[null,1.5],\"b\":1}",
        ),
        (
            "{{ {'a': ['é', {}]}|tojson(indent=2, ensure_ascii=true) }}",
            "{\n  \"a\": [\n    \"\\u00e9\",\n    {}\n  ]\n}",
        ),
        ("{{ {1: 2, none: true}|tojson(indent='-') }}", "{\n-\"1\": 2,\n-\"null\": true\n}"),
        ("{{ '\\x7f\\x1f'|tojson }}", "\"\u{7f}\\u001f\""),
        (
            "{{ ['s' is sequence, {} is sequence, 1 is sequence, [] is mapping, {} is iterable, (1|string) is string] }}",
            "[True, True, False, False, True, True]",
        ),
        ("{{ 'a.b.c'.rsplit('.', 1) }}{{ ' a  b '.rsplit(none, 1) }}", "['a.b', 'c'][' a', 'b']"),
        (
            "{{ 'abc'.removeprefix('a') ~ 'abc'.removesuffix('c') ~ '-7'.zfill(4) }}{{ 'a=b=c'.partition('=')|join('|') }}",
            "bcab-007a|=|b=c",
        ),
        ("{{ '%5.1f|%-4d|%05d|%s|%x|%%' % (2.25, 3, -4, 'a', 255) }}", "  2.2|3   |-0004|a|ff|%"),
        ("{{ '%(a)s' % {'a': none} }}{{ '%s and %s'|format('a', 1) }}", "Nonea and 1"),
        (
            "{{ '{:>5}|{:.2f}|{:,}|{0}' .format('a', 1.005, 1234567) if no else '{:>5}|{:.2f}|{:,}'.format('a', 1.005, 1234567) }}",
            "    a|1.00|1,234,567",
        ),
        (
            "{{ strftime_now('%c|%d %B %Y|%e|%-d|%j|%p|%x|%X') }}",
            "Thu Jan  1 00:00:00 2026|01 January 2026| 1|1|001|AM|01/01/26|00:00:00",
        ),
        ("{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "3"),
        (
            "{{ {'B': 1, 'a': 2}|dictsort|map('join')|join(' ') }}{{ [{'a': 1}, {'a': 2}]|selectattr('a', 'gt', 1)|list }}",
            "a2 B1[{'a': 2}]",
        ),
        ("{{ 1 ~ none ~ [true] ~ 2.0 }}", "1None[True]2.0"),
        ("{{ {'items': 3}.items()|length }}{{ {'items': 3}['items'] }}", "13"),
        (
            "{{ 'a' 'b' }}{{ '\\x41\\101\\q' }}{{ -7 // 2 }}{{ -7 % 3 }}{{ 7.5 // 2 }}{{ 1 == true }}",
            "abAA\\q-423.0True",
        ),
        ("{{ 'abc'[::-1] }}{{ [1, 2, 3][-2:] }}{{ 'x'|default }}{{ missing|default('d') }}", "cba[2, 3]xd"),
        ("{{ 42|round }}{{ '0x1f'|int(base=16) }}{{ 'x'|int(-1) }}", "4231-1"),
        (
            "{% for x in [[1, [2]], [3, none]] recursive %}{{ x[0] if x is not number else x }}{% if x is not number and x[1] %}({{ loop(x[1]) }}){% endif %}{% endfor %}",
            "1(2)3",
        ),
        (
            "  {% if true %}\n  a\n  {%- endif +%}\n  b{# c #}\n c {%- raw %} {{ x }} {% endraw %}\r\nd\n",
            "  a\n  b c {{ x }} d",
        ),
        (
            "{{ 'hello world-foo'|title }}{{ \"o'neil\".title() }}{{ 'a b'.split() }}{{ 'x'.center(4, '*') }}",
            "Hello World-FooO'Neil['a', 'b']*x**",
        ),
        (
            "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{% endfor %}",
            "TrueaFalseb1Truea1",
        ),
        ("{{ '{%'|indent(2, true) ~ ('a\n'|indent) ~ '|' }}{{ \"a & 'b'/\"|e }}", "  {%a\n|a &amp; &#39;b&#39;/"),
        ("{{ 6 * '1'|int % 4 }}{{ 'a %s' % ('b' ~ 'c')|upper }}{{ ('%s-%s' % (1, 'x',)).upper() }}", "2a BC1-X"),
        (
            "{# {% generation %} #}{% raw %}{% generation %}{% endraw %}{{ '{% generation %}' }}",
            "{% generation %}{% generation %}",
        ),
        ("a\r\nb\r{% if true %}\r\nc{% endif %}\r\n", "a\nb\nc"),
        ("a {%- generation +%}\nb {% endgeneration -%} \n c", "a\nb c"),
    ] {
        assert_eq!(render(source).as_deref(), Ok(text), "{source}");
    }
}

#[test]
fn what_python_refuses_is_refused() {
    for source in [
        "{{ 'a' + 1 }}",
        "{% set x = [] %}{{ x.append(1) }}",
        "{{ missing.x }}",
        "{{ range(100001) }}",
        "{{ '%d' % 'x' }}",
        "{{ 'a'.nosuch() }}",
        "{{ x|nosuch }}",
        "{{ [missing]|tojson }}",
        "{{ 'b' in 3 }}",
        "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
        "{% include 'x' %}",
        "{% if %}{% endif %}",
        "{{ 'a }}",
        "{{ f(a=1, 2) }}",
    ] {
        assert!(render(source).is_err(), "{source}: {:?}", render(source));
    }
}

#[test]
fn an_error_names_the_line_and_the_cause() {
    let error = render("a\n{% for i in [1] %}\n{{ missing.x }}{% endfor %}").unwrap_err();
    assert!(error.contains("undefined") && error.contains("the template:3"), "{error}");
    let error = render("a\n\n{% nosuch %}").unwrap_err();
    assert!(error.contains("nosuch") && error.contains("the template:3"), "{error}");
    assert!(render("{{ raise_exception('no ' ~ 1) }}").unwrap_err().contains("no 1"));
    let error = render("{% set s = '%d' %}{{ s % 1 }}").unwrap_err();
    assert!(error.contains("% operator"), "{error}");
}

#[test]
fn deep_nesting_of_formats_does_not_use_up_the_stack() {
    let deep = |levels: usize| format!("{{{{ {}'b'{} }}}}", "'a%s'%(".repeat(levels), ")".repeat(levels));
    assert_eq!(render(&deep(3)).unwrap(), "aaab");
    let _ = render(&deep(50_000)).unwrap_err();
}

#[test]
fn formats_are_rewritten_down_to_a_depth() {
    for (levels, rewritten, left) in [(1, 1, 0), (50, 50, 0), (51, 50, 1)] {
        let nested = (0..levels).fold("'x'".to_owned(), |inner, _| format!("'%s' % ({inner})"));
        let text = source::prepared(&format!("{{{{ {nested} }}}}"));
        let count = |part: &str| text.matches(part).count();
        assert_eq!((count("|format("), count("' % (")), (rewritten, left), "{levels} levels: {text}");
    }
}
