"""Pictures as SVG inside a page, whose colour of text and background they take."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Drawn in a colour that nothing else has, which then becomes that of the text around.
_INK = "#010203"


def svg(draw: Callable[[Axes], object], name: str, *, width: float = 5.6, height: float = 3.6) -> str:
    """What `draw` draws on the Axes that it is given, as an <svg> element; the same drawing gives the same string.

    Parameters
    ----------
    draw : function of Axes
    name : str
        What the picture shows, for those who cannot see it. Two pictures of a page have different names: the ids
        inside are made from them.
    width, height : float
        In inches, before the page scales it.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK)
    style |= {"axes.facecolor": "none", "svg.fonttype": "none", "svg.hashsalt": name}
    file = io.StringIO()
    with rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    element = file.getvalue()
    element = element[element.index("<svg") :].strip().replace(_INK, "currentColor")
    # Ids that nothing refers to would appear once in every picture of the page.
    element = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", element)
    return element.replace("<svg", f'<svg role="img" aria-label="{html.escape(name)}"', 1)
