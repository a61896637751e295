"""Pictures as elements of HTML."""

import base64
from xml.etree import ElementTree

from bs4 import BeautifulSoup

from lstm_toolkit.display.images import PNG, SVG, image


def test_the_picture_comes_back_from_its_element():
    drawn = '<svg xmlns="http://www.w3.org/2000/svg"><text>"ä" &amp; \'b\'</text></svg>'
    element = BeautifulSoup(image(drawn.encode(), SVG, 'a "b" <c>', "width: 3px"), "html.parser").img
    kind, _, data = element["src"].partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert ElementTree.fromstring(base64.b64decode(data))[0].text == "\"ä\" & 'b'"
    assert element["alt"] == 'a "b" <c>'
    assert element["style"] == "width: 3px"


def test_no_style_unless_one_is_given():
    assert image(b"\x00\xff", PNG, "a picture") == '<img alt="a picture" src="data:image/png;base64,AP8=">'
