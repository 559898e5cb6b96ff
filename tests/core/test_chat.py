import pytest

from p2pinfer.core.chat import ChatTemplate
from p2pinfer.core.errors import ModelError, UsageError

HI = [{"role": "user", "content": "hi"}]


def test_messages_become_the_models_text() -> None:
    template = ChatTemplate("{% for m in messages %}[{{ m.role }}] {{ m['content'] }}\n{% endfor %}")
    assert template.render([*HI, {"role": "assistant", "content": "ho"}]) == "[user] hi\n[assistant] ho\n"


def test_a_template_knows_bos_and_eos() -> None:
    assert ChatTemplate("{{ bos_token }}|{{ eos_token }}", "<s>", "</s>").render(HI) == "<s>|</s>"


def test_a_template_is_asked_for_the_beginning_of_an_answer() -> None:
    assert ChatTemplate("{% if add_generation_prompt %}A:{% endif %}").render(HI) == "A:"


def test_lines_of_statements_leave_no_trace() -> None:
    assert ChatTemplate("{% if true %}\n  {% set x = 1 %}\nx\n{% endif %}\n").render(HI) == "x\n"


def test_loops_may_be_left() -> None:
    assert (
        ChatTemplate("{% for n in range(9) %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}").render(HI)
        == "01"
    )


def test_marks_for_training_are_transparent() -> None:
    assert ChatTemplate("a{% generation %}b{% endgeneration %}c").render(HI) == "abc"


def test_json_is_not_escaped_for_html() -> None:
    assert ChatTemplate("{{ {'a': '<é>'} | tojson }}").render(HI) == '{"a": "<é>"}'


def test_a_template_may_ask_whether_there_is_a_clock() -> None:
    assert ChatTemplate("{{ strftime_now is defined }}").render(HI) == "False"


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
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ 'x' | nothing }}", "No filter"),
        ("{{ 1 + 'x' }}", "unsupported operand"),
    ],
)
def test_a_template_that_fails_says_why(source: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        ChatTemplate(source).render(HI)


def test_what_is_no_template_is_refused() -> None:
    with pytest.raises(ModelError, match="broken"):
        ChatTemplate("{% for %}")


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
