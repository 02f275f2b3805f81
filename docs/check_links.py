"""Check the links inside the built site: python docs/check_links.py docs/_build/html"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the places in it that a link can lead to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = set(), {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}
        self.links |= {found[name] for name in ("href", "src") if found.get(name)}


def broken_links(root):
    """Yield each link of the site that leads nowhere, with its page."""
    paths = (path for path in root.rglob("*.html") if "_static" not in path.parts)
    pages = {path: Page(path) for path in paths}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            place = unquote(parts.fragment)
            if not target.exists() or (target in pages and place not in pages[target].places):
                yield f"{path.relative_to(root)}: {link}"


if __name__ == "__main__":
    broken = sorted(broken_links(Path(sys.argv[1]).resolve()))
    sys.exit("\n".join(["broken links:", *broken]) if broken else 0)
