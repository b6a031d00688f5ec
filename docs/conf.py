"""The site's builder: what Sphinx needs to know. `make docs` builds it and fails on a broken link.

Pages are Markdown that a code host shows as well: links are relative, and only `index.md` (which has the navigation),
the changelog and the API reference need directives.
"""

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

project = "nixfleet"
author = "the nixfleet authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["conf.py"]

# Headings down to this depth are link targets, named as a code host names them.
myst_heading_anchors = 4

html_theme = "furo"
html_title = "nixfleet"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False

# Docstrings write code between single backticks, as the rest of the project does.
default_role = "code"
autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90

# A block without a language is shown as it is. A code host draws Mermaid; a site that is built offline shows its text.
highlight_language = "none"
lexers["mermaid"] = TextLexer()
