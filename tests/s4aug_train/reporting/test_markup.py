"""What is escaped comes out of a parser as it went in, and is never a tag."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from s4aug_train.reporting.markup import UNSHOWN, Markup, joined, tag


class Read(HTMLParser):
    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ""
        self.feed(source)
        self.close()

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@given(st.text(), st.text())
def test_texts_and_attributes_come_back_as_they_were(text, value):
    read = Read(tag("p", {"title": value}, text).source)
    assert read.tags == [("p", {"title": UNSHOWN.sub("\ufffd", value)})]
    assert read.text == UNSHOWN.sub("\ufffd", text)


def test_a_text_that_is_a_tag_is_none_and_markup_is():
    assert tag("p", {}, "<script>1</script>").source == "<p>&lt;script&gt;1&lt;/script&gt;</p>"
    assert tag("p", {"title": '"><b>'}, None).source == '<p title="&quot;&gt;&lt;b&gt;"></p>'
    assert tag("p", {}, ["a", [Markup("<br>"), None]], tag("img", {"alt": ""})).source == '<p>a<br><img alt=""></p>'
    assert joined("a & b", Markup("&amp;")).source == "a &amp; b&amp;amp;".replace("b&amp;amp;", "b&amp;")


def test_what_is_no_character_or_turns_the_reading_direction_is_replaced():
    shown = tag("p", {}, "a\x00\udc80\u202eb\n").source
    assert shown == "<p>a\ufffd\ufffd\ufffdb\n</p>"
    shown.encode()
