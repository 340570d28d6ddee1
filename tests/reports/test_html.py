"""The page is one self-contained file that nothing in a model's names can break out of."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from golden_report import check_golden
from report_samples import (
    SAMPLES,
    exploding_stack,
    founding_case,
    nasty_names,
    resnet,
    sequence_model,
)

from auditor.reports.html import HtmlReporter

VOID = {"meta", "input", "br", "link", "img", "hr"}
FETCHING = {"link", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "use"}


class Page(HTMLParser):
    """Tags, ids, links and inline texts of a page; fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.links = [], [], [], []
        self.attributes, self.inline, self.policy, self.text = set(), {}, "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.note(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("style", "script"):
            self.inline[self.open[-1]] = data
        else:
            self.text.append(data)

    def note(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self.attributes.update(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if "href" in attributes:
            self.links.append(attributes["href"])
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]


@pytest.fixture(scope="module", params=[*SAMPLES, "all"])
def page(request):
    names = SAMPLES if request.param == "all" else [request.param]
    return Page(HtmlReporter().render(tuple(SAMPLES[name]() for name in names)))


def test_nests_and_links_inside_itself_only(page):
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_fetches_nothing_and_has_one_script_and_one_style(page):
    assert FETCHING.isdisjoint(page.tags)
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert "src" not in page.attributes
    assert not re.search(r"@import|url\(", page.inline["style"])


def test_policy_admits_its_own_style_and_script_and_nothing_else(page):
    # Attributes named style or on… would be refused by the policy, so there must be none.
    assert "style" not in page.attributes
    assert not [name for name in page.attributes if name.startswith("on")]
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.inline[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in page.policy
    assert "default-src 'none'" in page.policy
    assert "unsafe" not in page.policy


def test_names_are_shown_and_never_obeyed():
    text = HtmlReporter().render((nasty_names(),))
    assert text.isprintable() is False  # line breaks
    assert "".join(text.split("\n")).isprintable()
    shown = "".join(Page(text).text)
    for name in (r"[red]\x1b[2J", "{{ 7*7 }} {% raw %}", r"\u202egnp.exe", r"\ud800lone", "&amp;"):
        assert name in shown
    assert "<img" not in text
    assert "<script>alert" not in text


def test_several_models_have_an_index():
    text = HtmlReporter().render((founding_case(), resnet()))
    assert 'href="#m0"' in text
    assert 'href="#m1"' in text
    assert "examples/founding_case.keras" in text


def test_no_words_of_python_or_of_code():
    shown = "".join(Page(HtmlReporter().render((resnet(),))).text)
    for word in ("None", "Severity.", "Op.", "dataclass", "batch-norm", "(None,", "True"):
        assert word not in shown


def test_size_stays_modest():
    # ResNet50's page: about 380 kB; each of its 177 calls costs 2 kB in drawing, plots and table,
    # 0.5 kB of which say how its Jacobian came about.
    assert len(HtmlReporter().render((resnet(),))) < 450_000


def test_probe_skipped_is_told_with_its_reason():
    text = "".join(Page(HtmlReporter().render((founding_case(),))).text)
    assert "Probe skipped" in text
    assert "get one with pip install 'geb-audit[tensorflow]'" in text


def shown(result):
    return " ".join("".join(Page(HtmlReporter().render((result,))).text).split())


def test_an_incomplete_probe_says_so_before_anything_else():
    text = shown(sequence_model())
    banner = text.index("Probe incomplete it reached its time limit of 60 s")
    assert banner < text.index("Findings")
    assert "Traceback" not in text
    assert "Probe incomplete" not in shown(resnet())


def test_jacobians_left_out_are_told_by_reason():
    text = shown(sequence_model())
    assert "4 calls without a Jacobian" in text
    assert "2 × its inputs are whole numberstokens embedding" in text
    assert "2 × time limitgru mixing" in text


def test_every_measure_has_its_place():
    sequence, residual = shown(sequence_model()), shown(resnet())
    for title in ("Along time", "Attention", "Gradient noise scale B"):
        assert title in sequence
        assert (title in residual) == (title == "Gradient noise scale B")
    for title in ("Signal at the residual blocks", "Stages", "Sharpness λ₁(H)"):
        assert title in residual
        assert title not in sequence
    assert "Curvature was not measured: the time limit of 60 s came first." in sequence


def test_a_number_says_how_it_came_about():
    text = HtmlReporter().render((exploding_stack(),))
    assert (
        'title="mean σ²/σ₁² = 0.18; lower bound; at most 0.11 too small; median of samples from '
        '7.91 to 8.74; Golub–Kahan, 8 steps; 16 products"' in text
    )
    assert '≥ 8.33 <span class="error">+ 0.11</span>' in text


def test_golden():
    text = HtmlReporter().render((founding_case(),))
    body = re.sub(r"(?s)<(style|script)>.*?</\1>", r"<\1></\1>", text)
    check_golden("founding_case.html", re.sub(r"sha256-[\w+/=]+", "sha256-…", body))
