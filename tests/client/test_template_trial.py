"""Templates of strangers, before a model is stored: what they do to their process is told, and done to no other."""

import pytest

from p2pinfer.client.scribe import Bounds
from p2pinfer.client.template_trial import try_template

TIGHT = Bounds(memory=1 << 30, work_s=0.3)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ messages[0].content }} {{ strftime_now('%Y') }}", ""),
        ("{% do x %}", "the model's chat template is broken: Encountered unknown tag 'do'"),
        ("{{ tool.name }}", "'tool' is undefined"),
        ("{{ 'abcdef' | truncate(1) }}", "expected length >= 3"),
        ("{{ raise_exception('\\ud800') }}", "does not take these messages: \ud800"),
    ],
)
def test_a_fault_is_told_in_words(template: str, fault: str) -> None:
    found = try_template(template)
    assert (fault in found, found == "") == (True, fault == "")


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set a %}{% for n in range(99999) %}{{ 'a' * 1000000 }}{% endfor %}{% endset %}",
        "{{ '%1999999999d' % 1 }}",
    ],
)
def test_a_hostile_template_ends_its_own_process_alone(template: str) -> None:
    assert any(words in try_template(template, TIGHT) for words in ("takes too long or too much memory", "MemoryError"))
