"""The page's modules as one script, and the document that is shared, without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources

import pytest

from personascope.live._share import DATA, bundle, shared_page

FILES = {
    file.name: file.read_text(encoding="utf-8")
    for file in resources.files("personascope.live").joinpath("assets").iterdir()
    if file.is_file()
}


def test_modules_become_one_script_in_order() -> None:
    files = {
        "main.js": 'import { one as first,\n  two } from "./parts.js";\nimport * as all from "./parts.js";\n'
        "export const sum = first + two() + all.one;",
        "parts.js": "export const one = 1;\nexport function two() { return 2; }\nconst own = 3;",
    }
    script = bundle(files, "main.js")
    assert script.index('modules["parts.js"] =') < script.index('modules["main.js"] =')
    assert 'const {one: first, two} = modules["parts.js"];' in script
    assert 'const all = modules["parts.js"];' in script and "return {one, two};" in script
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('import "./main.js";', "not bundled"),
        ("export default 1;", "not bundled"),
        ('import { a } from "./other.js";', "imports itself"),
        ("const a = '</script>';", "end its script"),
    ],
)
def test_what_cannot_be_bundled_is_noticed_when_the_server_starts(text: str, word: str) -> None:
    files = {"main.js": text, "other.js": 'import { b } from "./main.js";\nexport const a = 1;'}
    with pytest.raises(AssertionError, match=word):
        bundle(files, "main.js")


def test_the_shared_document_has_everything_and_loads_nothing() -> None:
    page = shared_page(FILES)
    for name in FILES:
        if name.endswith(".js"):
            assert f'modules["{name}"] = (' in page, name
    assert page.count(DATA) == 1
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for tag in ("style", 'script type="module"'):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag.split()[0]}>", page, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert not re.search(r'(src|href)="(?!#|data:)', page)


def test_the_recordings_are_small_and_of_one_format() -> None:
    folder = resources.files("personascope.live").joinpath("assets/recordings")
    listed = json.loads(folder.joinpath("index.json").read_text(encoding="utf-8"))
    assert {one["file"] for one in listed} | {"index.json"} == {file.name for file in folder.iterdir()}
    for one in listed:
        text = folder.joinpath(one["file"]).read_text(encoding="utf-8")
        value = json.loads(text)
        assert len(text) < 50_000 and (value["format"], value["version"]) == ("personascope live", 2)
