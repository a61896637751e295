"""What is too faint to be seen, in figures of matplotlib and in SVG: colours are data, and no browser is needed."""

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
from matplotlib.collections import Collection, QuadMesh
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.text import Annotation, Text

GRAPHICS, TEXT = 3, 4.5
"""What WCAG 2.2 asks for parts of graphics (1.4.11) and for text (1.4.3)."""

SEEN = (Line2D, Patch, Collection, AxesImage, Text)
SHAPES = ("rect", "path", "polygon", "line", "circle", "text")

MOST = 0.75
"""The share of a mark that has to be seen; the rest may lie on other marks."""


def linear(color):
    """Light of a colour: red, green and blue as they are in files, each 0 to 1, without their gamma."""
    return [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in color]


def luminance(color):
    """Of red, green and blue, each 0 to 1."""
    red, green, blue = linear(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(one, other):
    """The contrast of two colours, as WCAG defines it."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def over(color, alpha, ground):
    """A colour as it is seen in front of an opaque one."""
    return tuple(alpha * each + (1 - alpha) * back for each, back in zip(color, ground, strict=True))


def faint(figure, *, but_faded=False):
    """Says of each mark and text of a figure that is too faint what it is.

    Args:
        figure: of matplotlib.
        but_faded: leaves out what is transparent as a whole, such as gates that are not followed.
    """
    figure.draw_without_rendering()
    grounds, found = [], []
    for artist in drawn(figure):
        if not (but_faded and artist.get_alpha() not in (None, 1)):
            wrong = _wrong(artist, grounds)
            if wrong:
                gid = f" {artist.get_gid()}" if artist.get_gid() else ""
                found.append(f"{wrong}: {artist}{gid}")
        grounds += _grounds(artist)
    return found + [f"no frame: {image}" for image in _without_frame(figure)]


def drawn(figure):
    """Lines, patches, images and texts that are seen, from the page to the front."""
    artists = [figure.patch]
    for axes in sorted(figure.axes, key=lambda each: each.get_zorder()):
        frame = [axes.patch, axes.xaxis, axes.yaxis, *axes.spines.values()]
        children = [each for each in axes.get_children() if axes.axison or each not in frame]
        children.sort(key=lambda each: -np.inf if each is axes.patch else each.get_zorder())
        artists += [part for each in children for part in _parts(each)]
    artists += [part for each in figure.legends for part in _parts(each)]
    return [each for each in artists if each.get_visible()]


def _parts(artist):
    if isinstance(artist, Annotation) and artist.arrow_patch:
        return [artist.arrow_patch, artist]
    found = artist.findobj(lambda each: isinstance(each, SEEN) and each.get_visible())
    # The frame of a legend tells nothing.
    return [each for each in found if not (isinstance(artist, Legend) and each is artist.get_frame())]


def _wrong(artist, grounds):
    """What is wrong with an artist in front of what was drawn before; empty if nothing is."""
    if isinstance(artist, Text):
        return _wrong_text(artist, grounds) if artist.get_text().strip() else ""
    # The shades of a heat map and of its key are values.
    if isinstance(artist, (AxesImage, QuadMesh)) or not grounds:
        return ""
    places, colors = _mark(artist)
    if not len(places) or not any(alpha for *_, alpha in colors):
        return ""
    casing = [to_rgb(each._gc["foreground"]) for each in artist.get_path_effects() or () if hasattr(each, "_gc")]
    # What has a casing stands on that, and not on what is behind.
    behind = [casing[:1] or ground for ground in _behind(places, grounds)]
    contrasts = [[max(ratio(over(rgb, alpha, each), each) for *rgb, alpha in colors) for each in b] for b in behind]
    seen = [min(each) for each in contrasts]
    # What has the very colour of its ground, such as a white box on white, is no mark.
    if max(map(max, contrasts)) < 1.01:
        return ""
    if np.mean(np.array(seen) >= GRAPHICS) < MOST:
        return f"faint, {np.median(seen):.2f}"
    return _wrong_hatch(artist, behind[0][0])


def _wrong_hatch(artist, ground):
    if not isinstance(artist, Patch) or not artist.get_hatch():
        return ""
    (*face, alpha), (*hatch, opaque) = artist.get_facecolor(), artist.get_edgecolor()
    behind = over(face, alpha, ground)
    value = ratio(over(hatch, opaque, behind), behind)
    return f"faint hatch, {value:.2f}" if value < GRAPHICS else ""


def _wrong_text(text, grounds):
    box, label = text.get_window_extent(), text.get_bbox_patch()
    (behind,) = _behind([((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)], grounds, exact=True)
    if label is not None:
        *face, alpha = label.get_facecolor()
        behind = [over(face, alpha, each) for each in behind]
    *ink, alpha = to_rgba(text.get_color(), text.get_alpha())
    value = min(ratio(over(ink, alpha, each), each) for each in behind)
    return f"faint text, {value:.2f}" if value < TEXT else ""


def _mark(artist):
    """Places along a mark in pixels, and its colours with their alpha, of which one has to be seen."""
    if isinstance(artist, Collection):
        segments = [
            segment for path in artist.get_paths() for segment in artist.get_transform().transform(path.vertices)
        ]
        offsets = artist.get_offset_transform().transform(artist.get_offsets())
        colors = [*artist.get_facecolors(), *artist.get_edgecolors()]
        return (segments if not np.any(artist.get_offsets()) else offsets), [tuple(each) for each in colors]
    path = artist.get_path().transformed(artist.get_transform())
    if isinstance(artist, Line2D):
        has_line = artist.get_linestyle() not in ("None", "", " ") and artist.get_linewidth() > 0
        if has_line:
            return _along(path), [to_rgba(artist.get_color(), artist.get_alpha())]
        both = artist.get_markerfacecolor(), artist.get_markeredgecolor()
        has_marker = artist.get_marker() not in ("None", "", " ", None)
        return path.vertices, [to_rgba(each, artist.get_alpha()) for each in both if has_marker]
    colors = [artist.get_facecolor()] if artist.get_fill() else []
    colors += [artist.get_edgecolor()] if artist.get_linewidth() > 0 else []
    return _along(path), colors


def _along(path, every=8):
    """Places along a path, as many pixels apart."""
    places = []
    for line in path.to_polygons(closed_only=False):
        for start, end in itertools.pairwise(line):
            count = max(1, int(np.hypot(*(end - start)) / every))
            places += [start + (end - start) * (number + 0.5) / count for number in range(count)]
    return places


def _grounds(artist):
    """What an artist puts behind the next ones: where it is, and its colour or the image with its colours."""
    if isinstance(artist, AxesImage):
        corners = artist.get_window_extent().corners()[[0, 1, 3, 2, 0]]
        return [(Path(corners), artist)]
    if isinstance(artist, Patch) and artist.get_fill() and artist.get_facecolor()[3] > 0:
        return [(artist.get_path().transformed(artist.get_transform()), artist.get_facecolor())]
    return []


def _behind(places, grounds, *, exact=False):
    """For each place the colours that may be behind it; of heat maps all that they can have, or the one there is."""
    behind = [[(1.0, 1.0, 1.0)] for _ in places]
    for path, ground in grounds:
        # On an edge is outside; which sign of the radius shrinks depends on the turn of the path.
        inside = path.contains_points(places, radius=2) & path.contains_points(places, radius=-2)
        for number in np.flatnonzero(inside):
            if not isinstance(ground, AxesImage):
                behind[number] = [over(ground[:3], ground[3], each) for each in behind[number]]
            elif exact:
                behind[number] = [_cell(ground, places[number])]
            else:
                behind[number] = [to_rgb(each) for each in ground.cmap(np.linspace(0, 1, 9))]
    return behind


def _cell(image, place):
    """The colour of a heat map at a place."""
    box, values = image.get_window_extent(), image.get_array()
    across, up = (place[0] - box.x0) / box.width, (place[1] - box.y0) / box.height
    row = int((up if image.origin == "lower" else 1 - up) * values.shape[0])
    return to_rgb(image.to_rgba(values)[row, int(across * values.shape[1])])


def _without_frame(figure):
    """Heat maps that nothing outlines."""
    patches = [each for each in drawn(figure) if isinstance(each, Patch) and not each.get_fill()]
    frames = np.array([each.get_window_extent().extents for each in patches]).reshape(-1, 1, 4)
    images = [each for each in figure.findobj(AxesImage) if not each.axes.axison]
    return [each for each in images if not (abs(frames - each.get_window_extent().extents) < 2).all(axis=2).any()]


def faint_in_svg(svg):
    """The same of a drawing whose first shape is its page."""
    shapes = [each for each in _shapes(ElementTree.fromstring(svg), {"fill": "#000000"}) if each[0] in SHAPES]
    page, *boxes = [look for tag, look in shapes if tag == "rect" and look["fill"] != "none"]
    found = []
    for tag, look in shapes:
        if look is page:
            continue
        behind = [page, *(box for box in boxes if _touches(tag, look, box))]
        if tag == "text":
            behind = behind[-1:]
        color = look["fill"] if tag == "text" else look.get("stroke") or look["fill"]
        value = min(ratio(to_rgb(color), to_rgb(box["fill"])) for box in behind)
        if value < (TEXT if tag == "text" else GRAPHICS):
            found.append(f"faint, {value:.2f}: {tag} {look}")
    return found


def _shapes(element, inherited):
    """Each element of a drawing with its attributes, and with the colours that it takes from what it is in."""
    look, tag = inherited | element.attrib, element.tag.rpartition("}")[2]
    if tag != "text" or element.text:
        yield tag, look
    for child in element:
        yield from _shapes(child, {name: look[name] for name in ("fill", "stroke") if name in look})


def _touches(tag, look, box):
    """Whether a text lies in a box, or an outline may lie on one, which is not all inside it."""
    left, top, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
    if tag not in ("rect", "text"):
        return True
    x, y = float(look["x"]), float(look["y"])
    right, bottom = x + float(look.get("width", 0)), y + float(look.get("height", 0))
    apart = right < left or left + width < x or bottom < top or top + height < y
    inside = x < left and y < top and left + width < right and top + height < bottom
    return not apart and not inside
