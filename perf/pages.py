"""HTML pages by the templates of ``perf/templates``, each of them one file that loads nothing."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def page(name: str, **values: Any) -> str:
    """Return the page of the template ``<name>.html``; every value but a chart is escaped."""
    templates = Environment(loader=PackageLoader("perf"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                            lstrip_blocks=True, keep_trailing_newline=True)
    return templates.get_template(f"{name}.html").render(values)
