"""`image`: a picture as an element of HTML, with a text that says what it shows."""

import base64

from lstm_toolkit.escapes import in_html

SVG, PNG = "image/svg+xml", "image/png"


def image(data: bytes, kind: str, alt: str, style: str = "") -> str:
    """A picture as an `<img>` that holds it, which a notebook shows even if it is not trusted; it cuts an `<svg>` out.

    Args:
        data: the picture.
        kind: its type, `SVG` or `PNG`. An SVG must have its own background, since a page may be light or dark.
        alt: what it shows, for those who do not see it.
        style: CSS of the element.
    """
    styled = f' style="{style}"' if style else ""
    return f'<img alt="{in_html(alt)}"{styled} src="data:{kind};base64,{base64.b64encode(data).decode()}">'
