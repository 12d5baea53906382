"""Shows the cross-references of docstrings, such as :func:`~package.module.name`, as plain names."""

import re

REFERENCE = re.compile(r":(?:func|class|meth|mod|attr):<code>~?(?:\w+\.)*(\w+)</code>")


def on_page_content(html, **_):
    return REFERENCE.sub(r"<code>\1</code>", html)
