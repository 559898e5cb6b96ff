import tracemalloc
from datetime import datetime
from typing import Any

import pytest

from p2pinfer.core.models.chat import ChatTemplate, fault_of
from p2pinfer.core.values.errors import ModelError, UsageError

HI = [{"role": "user", "content": "hi"}]


def test_messages_become_the_models_text() -> None:
    template = ChatTemplate("{% for m in messages %}[{{ m.role }}] {{ m['content'] }}\n{% endfor %}")
    assert template.render([*HI, {"role": "assistant", "content": "ho"}]) == "[user] hi\n[assistant] ho\n"


def test_a_template_knows_bos_and_eos() -> None:
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    assert ChatTemplate("{{ bos_token }}|{{ eos_token }}|{{ pad_token }}", names).render(HI) == "<s>|</s>|"


def test_a_template_is_asked_for_the_beginning_of_an_answer() -> None:
    assert ChatTemplate("{% if add_generation_prompt %}A:{% endif %}").render(HI) == "A:"


def test_lines_of_statements_leave_no_trace() -> None:
    assert ChatTemplate("{% if true %}\n  {% set x = 1 %}\nx\n{% endif %}\n").render(HI) == "x\n"


def test_loops_may_be_left() -> None:
    assert (
        ChatTemplate("{% for n in range(9) %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}").render(HI)
        == "01"
    )


THINKS = "{% if not enable_thinking %}no {% endif %}{{ x }}{% set y = 1 %}{{ y }}{% for n in range(1) %}{% endfor %}"


def test_a_variable_is_what_whoever_asks_says() -> None:
    assert ChatTemplate(THINKS).render(HI, variables={"enable_thinking": True, "x": 2.5}) == "2.51"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"enable_thinkin": False}, "does not look at enable_thinkin; it looks at: enable_thinking, x"),
        ({"y": 1}, "does not look at y"),
        ({"range": 1}, "does not look at range"),
        ({"bos_token": "x"}, "bos_token is what a template gets from p2pinfer"),
        ({"a b": 1}, "'a b' is not a name for a template's variable"),
        ({7: 1}, "7 is not a name"),
        ({"x": [1]}, "true, false, a number or a text: x is .1."),
        ({"x": 1 << 63}, "x is a number of more than 64 bits"),
        (["x"], "template_vars are names and values, not .'x'."),
    ],
)
def test_what_is_no_variable_of_the_template_is_told(variables: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ChatTemplate(THINKS).render(HI, variables=variables)


def test_marks_for_training_are_transparent() -> None:
    assert ChatTemplate("a{% generation %}b{% endgeneration %}c").render(HI) == "abc"


def test_json_is_not_escaped_for_html() -> None:
    assert ChatTemplate("{{ {'a': '<é>'} | tojson }}").render(HI) == '{"a": "<é>"}'


def test_json_is_written_as_transformers_lets_templates_ask_for_it() -> None:
    asked = "tojson(ensure_ascii=true, indent=1, separators=(',', ':'), sort_keys=true)"
    assert ChatTemplate(f"{{{{ {{'b': 'é', 'a': 1}} | {asked} }}}}").render(HI) == '{\n "a":1,\n "b":"\\u00e9"\n}'


def test_a_template_may_ask_whether_there_is_a_clock() -> None:
    assert ChatTemplate("{{ strftime_now is defined }}").render(HI) == "False"
    assert ChatTemplate("{{ strftime_now('%d %b %Y') }}").render(HI, datetime(2026, 11, 27)) == "27 Nov 2026"


def test_a_template_that_takes_no_chat_is_known_before_one_is_asked() -> None:
    now = datetime(2026, 11, 27)
    assert fault_of("{{ strftime_now('%Y') }}{{ messages[0].content }}", now) == ""
    assert "unknown tag 'do'" in fault_of("{% do x %}", now)
    assert "'tool' is undefined" in fault_of("{{ tool.name }}", now)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for n in range(1000000) %}{% endfor %}", "Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "never ends"),
        ("{{ 'a' * 2000000000 }}", "product is too large"),
        ("{{ ([0] * 2000) * 2000 }}", "product is too large"),
        ("{% for n in range(99) %}{{ strftime_now }}{{ 'a' * 1000000 }}{% endfor %}", "more than 67108864 characters"),
        ("{{ 10 ** (10 ** 10) }}", "power is too large"),
        ("{{ lipsum(1000000) }}", "'lipsum' is undefined"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ 'x' | nothing }}", "No filter"),
        ("{{ 1 + 'x' }}", "unsupported operand"),
        ("{{ 'abcdef' | truncate(1) }}", "expected length >= 3"),
        ("{{ cycler() }}", "at least one item"),
    ],
)
def test_a_template_that_fails_says_why(source: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        ChatTemplate(source).render(HI)


@pytest.mark.parametrize(
    "source",
    [
        "{% for %}",
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "{{ " + "[" * 100 + "]" * 100 + " }}",
        "{% if true %}" * 3000 + "{% endif %}" * 3000,
        "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "-" * 100_000 + "1 }}",
        "{{ " + "1" * 10_000 + " }}",
    ],
    ids=lambda source: source[:24],
)
def test_what_is_no_template_is_refused(source: str) -> None:
    with pytest.raises(ModelError, match="broken"):
        ChatTemplate(source)


def test_products_of_constants_are_not_made_while_a_template_is_read() -> None:
    tracemalloc.start()
    ChatTemplate("{{ 'a' * 200000000 }}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"content": "hi"}],
        [{"role": "root", "content": "hi"}],
        [{"role": "user"}],
        [{"role": "user", "content": 7}],
    ],
    ids=str,
)
def test_what_is_no_message_is_refused(messages: list[dict[str, str]]) -> None:
    with pytest.raises(UsageError):
        ChatTemplate("{{ messages }}").render(messages)
