"""Sections 11.3 and 11.5: the record of memories as JSON, and the template of its layout as YAML."""

import ast
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fitcore.testing import CONDITIONAL, REFUTED, claim, override
from fitcore.testing.outcomes import error_of

words = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=5)
events = st.fixed_dictionaries({"event": st.just("第一次看海") | words, "date": st.dates().map(str), "emotion": words})
records = st.fixed_dictionaries(
    {
        "identity": words,
        "relationship": words,
        "personality": st.lists(words, max_size=4),
        "preferences": st.dictionaries(words, words, max_size=3),
        "memories": st.lists(events, max_size=3),
    }
)


def as_json(value):
    return json.dumps(value, ensure_ascii=False, indent=2)


@claim(
    "pytorch-notes/sample-memory-record-is-valid-json",
    verdict=CONDITIONAL,
    finding="The record is, but not the whole of the printed block: JSON has no comments, and json.loads stops at the "
    "line with # above the record. As a literal of Python, which allows comments, the block is read as it stands.",
    controls=[override("no comment", comment=""), override("quoted as Python does", printed=str)],
)
@given(record=records, comment=st.just("# 数据的格式\n"), printed=st.just(as_json))
def test_the_record_is_json_and_the_comment_above_it_is_not(record, comment, printed):
    block = comment + printed(record)
    assert error_of(json.loads, printed(record)) is None
    assert json.loads(printed(record)) == record
    with pytest.raises(json.JSONDecodeError, match=r"Expecting value: line 1 column 1"):
        json.loads(block)
    assert ast.literal_eval(block) == record


def append(text, event):
    record = json.loads(text)
    record["memories"].append(event)
    return as_json(record)


def append_to_the_file(text, event):
    return f"{text}\n{as_json(event)}"


def replace_the_last(text, event):
    record = json.loads(text)
    record["memories"][-1:] = [event]
    return as_json(record)


@claim(
    "pytorch-notes/new-memory-can-be-appended-to-record",
    finding="Read, appended to and written again, the record has one memory more, the newest last, and is otherwise as "
    "it was; with ensure_ascii=False Chinese stays readable. To append to the file itself would leave no JSON.",
    controls=[
        override("appended to the file", update=append_to_the_file),
        override("the last one replaced", update=replace_the_last),
    ],
)
@given(record=records, event=events, then=events, update=st.just(append))
def test_events_are_appended_to_the_memories_in_their_order(record, event, then, update):
    once = update(as_json(record), event)
    assert error_of(json.loads, once) is None
    twice = update(once, then)
    assert json.loads(twice) == {**record, "memories": [*record["memories"], event, then]}
    assert then["event"] in twice


def numbered(items, colon):
    lines = [f"  {number}. {name}{colon}{value}\n" for number, (name, value) in enumerate(items.items(), start=1)]
    return "Memory:\n" + "".join(lines)


@pytest.fixture(scope="session")
def yaml():
    return pytest.importorskip("yaml", reason="needs PyYAML")


@claim(
    "pytorch-notes/persona-layout-template-is-yaml",
    verdict=REFUTED,
    finding="A layout for people: YAML reads the five numbered lines as a single string, for neither '1.' nor a colon "
    "without a space after it means anything to it, and JSON refuses them. With a space after each colon they become a "
    "mapping, whose keys still have the numbers in them.",
    controls=[override("a space after the colon", colon=": ")],
)
@pytest.mark.parametrize("colon", [":", "："], ids=["colon", "full-width colon"])
@given(items=st.dictionaries(words, words, min_size=2, max_size=5))
def test_yaml_reads_the_numbered_lines_as_one_string(yaml, colon, items):
    text = numbered(items, colon)
    run_together = " ".join(text.split()[1:])
    assert yaml.safe_load(text) == {"Memory": run_together}
    assert isinstance(error_of(json.loads, text), json.JSONDecodeError)
    keyed = {f"{number}. {name}": value for number, (name, value) in enumerate(items.items(), start=1)}
    assert yaml.safe_load(numbered(items, ": ")) == {"Memory": keyed}
