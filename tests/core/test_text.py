import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from p2pinfer.core.models.detokenizer import Detokenizer
from p2pinfer.core.models.text import Texts
from p2pinfer.core.values.errors import ModelError, UsageError
from tests.disk.tiny import tiny_sentencepiece, tiny_tokenizer

TEXTS = Texts(tiny_tokenizer())
SENTENCEPIECE = tiny_sentencepiece()
PLAIN = Texts(SENTENCEPIECE)


def stream(text: str, *stops: str) -> tuple[list[str], Detokenizer]:
    """What a stream says to the ids of a text's bytes, one piece an id, and the rest last."""
    reader = Detokenizer(TEXTS, stops)
    pieces = [reader.add(byte) for byte in text.encode()]  # the ids of bytes are the bytes
    return [*pieces, reader.finish()], reader


def test_text_survives_its_ids() -> None:
    assert TEXTS.decode(TEXTS.encode("the naïve 東京 🚗\n")) == "the naïve 東京 🚗\n"


def test_merges_are_used() -> None:
    assert TEXTS.encode("the") == (257,)


def test_special_ids_have_no_text() -> None:
    assert TEXTS.decode((258, 257, 259)) == "the"


def test_special_names_in_a_text_are_their_ids() -> None:
    assert TEXTS.encode("the<|end|>") == (257, 259)


def test_ids_past_the_vocabulary_have_no_text() -> None:
    assert TEXTS.decode((257, 4_000_000_000)) == "the"


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert TEXTS.decode((0xFF, 0x41, 0xE2, 0x82)) == "\ufffdA\ufffd"


@given(st.lists(st.integers(0, 300), max_size=40))
def test_decoding_agrees_with_the_tokenizers_library(ids: list[int]) -> None:
    assert TEXTS.decode(ids) == Tokenizer.from_str(tiny_tokenizer().decode()).decode(ids)


@pytest.mark.parametrize("added", [{"id": 270, "content": "<|turn|>"}, {"id": 3, "content": "the"}], ids=str)
def test_an_added_name_with_another_id_than_the_librarys_is_refused(added: dict[str, object]) -> None:
    """MAN-15: else its name in a message would make a turn, and no text would end there."""
    description = json.loads(tiny_tokenizer())
    description["added_tokens"].append({**description["added_tokens"][0], **added})
    with pytest.raises(ModelError, match=r"has id \d+, and the tokenizers library gives it id \d+"):
        Texts(json.dumps(description).encode())


def test_sentencepiece_drops_the_space_a_text_begins_with() -> None:
    assert PLAIN.decode((1, 1)) == "hi hi"


def test_sentencepiece_puts_byte_names_together() -> None:
    assert PLAIN.decode((6 + 0xC3, 6 + 0xA9)) == "é"


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, 6 + 0x0A, 6 + 0x41]), max_size=20))
def test_sentencepiece_agrees_with_the_tokenizers_library(ids: list[int]) -> None:
    assert PLAIN.decode(ids) == Tokenizer.from_str(SENTENCEPIECE.decode()).decode(ids)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[]", tiny_tokenizer()[:-9]], ids=len)
def test_what_is_no_tokenizer_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="no tokenizer"):
        Texts(data)


def test_a_tokenizer_whose_ids_are_no_bytes_is_refused() -> None:
    description = json.loads(tiny_tokenizer()) | {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}
    with pytest.raises(ModelError, match="not supported"):
        Texts(json.dumps(description).encode())


def test_truncation_in_a_tokenizer_file_is_not_obeyed() -> None:
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    texts = Texts(json.dumps(json.loads(tiny_tokenizer()) | {"truncation": cut}).encode())
    assert len(texts.encode("a b c d")) == 7


def test_a_chat_without_a_template_is_refused() -> None:
    with pytest.raises(UsageError, match="no chat template"):
        TEXTS.chat([{"role": "user", "content": "hi"}])


# Streams


def test_text_comes_as_soon_as_it_is_certain() -> None:
    pieces, _ = stream("hi")
    assert pieces == ["h", "i", ""]


def test_a_character_waits_for_its_last_byte() -> None:
    pieces, _ = stream("é!")
    assert pieces == ["", "é", "!", ""]


def test_an_unfinished_character_is_replaced_at_the_end() -> None:
    reader = Detokenizer(TEXTS)
    assert [reader.add(0xC3), reader.finish()] == ["", "\ufffd"]


def test_the_rest_is_what_would_come_if_no_id_followed() -> None:
    reader = Detokenizer(TEXTS, ["END"])
    rests = []
    for byte in b"aE\xc3":
        reader.add(byte)
        rests.append(reader.rest)
    assert rests == ["", "E", "E\ufffd"]
    assert reader.add(0xA9) == "E\xe9"
    assert (reader.rest, reader.finish()) == ("", "")


def test_the_text_ends_before_the_stop_string() -> None:
    pieces, reader = stream("one END two", "END")
    assert "".join(pieces) == "one "
    assert reader.stop == "END"


def test_the_beginning_of_a_stop_string_is_held_back() -> None:
    pieces, _ = stream("aEN", "END")
    assert pieces == ["a", "", "", "EN"]


def test_what_was_held_back_comes_when_it_is_no_stop_string() -> None:
    pieces, reader = stream("aENx", "END")
    assert pieces == ["a", "", "", "ENx", ""]
    assert reader.stop is None


def test_a_stop_string_that_begins_inside_its_own_beginning_is_found() -> None:
    pieces, reader = stream("aaab", "aab")
    assert "".join(pieces) == "a"
    assert reader.stop == "aab"


def test_the_stop_string_that_is_complete_first_is_found() -> None:
    pieces, reader = stream("xabc", "abc", "b")
    assert "".join(pieces) == "xa"
    assert reader.stop == "b"


def test_of_stop_strings_complete_together_the_longest_is_found() -> None:
    pieces, reader = stream("xab", "b", "ab")
    assert "".join(pieces) == "x"
    assert reader.stop == "ab"


def test_there_is_no_text_after_a_stop_string() -> None:
    _, reader = stream("ab", "a")
    assert reader.add(0x41) + reader.finish() == ""


def test_a_stop_string_may_lie_inside_one_id() -> None:
    reader = Detokenizer(TEXTS, ["h"])
    assert (reader.add(257), reader.stop) == ("t", "h")


def test_a_stop_string_may_end_inside_a_character_of_several_bytes() -> None:
    pieces, reader = stream("a🚗b", "🚗")
    assert "".join(pieces) == "a"
    assert reader.stop == "🚗"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UsageError, match="empty stop string"):
        Detokenizer(TEXTS, ["x", ""])


@given(st.text("ab<é", max_size=30), st.lists(st.text("ab<é", min_size=1, max_size=4), max_size=3))
def test_the_stop_string_found_is_the_one_complete_first(text: str, stops: list[str]) -> None:
    pieces, reader = stream(text, *stops)
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    assert "".join(pieces) + (reader.stop or "") == text[: min(ends, default=len(text))]


@given(st.lists(st.integers(0, 259), max_size=40), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_pieces_add_up_to_the_text_before_the_stop(ids: list[int], stops: list[str]) -> None:
    """MAN-4."""
    reader = Detokenizer(TEXTS, stops)
    text = "".join([*map(reader.add, ids), reader.finish()])
    assert TEXTS.decode(ids).startswith(text + (reader.stop or ""))
    assert not any(stop in text for stop in stops)
