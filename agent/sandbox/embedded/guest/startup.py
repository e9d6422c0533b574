"""Set-up of each Python kernel: DataFrames also show their columns, matplotlib figures also the chart they draw.

Nothing is imported until such an object is shown. A DataFrame of more than a million cells shows as text and HTML only;
a figure that the chart reader does not understand shows as a picture only.
"""

import logging
import math
from typing import Any

from IPython.core.formatters import BaseFormatter
from traitlets.traitlets import ObjectName, Unicode

CELLS = 1_000_000
log = logging.getLogger(__name__)


class DataFormatter(BaseFormatter):
    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    _return_type = dict


class ChartFormatter(BaseFormatter):
    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    _return_type = dict

    def __call__(self, shown: Any) -> dict | None:
        """By name, for the inline backend throws every registered printer of figures away."""
        if any(f"{kind.__module__}.{kind.__name__}" == "matplotlib.figure.Figure" for kind in type(shown).__mro__):
            return drawn(shown)
        return super().__call__(shown)


def prepare(shell: Any) -> None:
    display = shell.display_formatter
    data, chart = DataFormatter(parent=display), ChartFormatter(parent=display)
    for module in ("pandas", "pandas.core.frame"):  # where the class says it lives depends on pandas' version
        data.for_type_by_name(module, "DataFrame", columns)
    display.formatters["e2b/data"] = data
    display.formatters["e2b/chart"] = chart


def columns(frame: Any) -> dict | None:
    """Column name to list of values that JSON can carry."""
    if frame.size > CELLS:
        return None
    return {str(name): [plain(value) for value in frame.iloc[:, i].tolist()] for i, name in enumerate(frame.columns)}


def plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if value != value:  # NaT and its like
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def drawn(figure: Any) -> dict | None:
    try:
        from e2b_charts import chart_figure_to_dict

        return chart_figure_to_dict(figure) or None
    except Exception:  # a reader of matplotlib's insides; no figure may fail to show because of it
        log.debug("no chart data for this figure", exc_info=True)
        return None
