"""`python -m tests.picture`: the README's picture, docs/simulator.svg, drawn from the demo's page after its story.

    smsgw demo ─ story ─> page in Chromium ─ walk: boxes and lines of text where they stand ─> SVG

The picture is text that a diff can show: letters stay letters, and no font or bitmap is in it. Before it is drawn, B's
owner saves one more friend at the page, so that the newest PDUs are those of a card.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from playwright.sync_api import sync_playwright

from bench.bed import free_base

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "simulator.svg"
DATA = ROOT / "build" / "picture"
STORY_S = 180.0
WIDTH, MARGIN = 1280, 24  # four phones in a row
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
FONTS = {
    "sans": "system-ui,'Noto Sans CJK SC','PingFang SC','Microsoft YaHei',sans-serif",
    "mono": "ui-monospace,'DejaVu Sans Mono',monospace",
}
TITLE = (
    "The simulator's page after the demo's story: four phones, the phone books of three of them open; below them the "
    "carrier's link and the newest PDUs, one of them decoded: a business card on its way to a phone"
)

# Phone books for A to C, the inbox for D; of the wire, without its heartbeat, what came since the last card, and it.
SET_THE_SCENE = """
() => {
  const phones = [...document.querySelectorAll("article.phone")];
  phones.slice(0, 3).forEach((phone) => phone.querySelector(".to-names").click());
  const all = [...document.querySelectorAll("#wire > li")];
  const wire = all.filter((one) => !one.querySelector("summary code").textContent.startsWith("enquire_link"));
  const card = wire.findIndex((one) => one.querySelector("summary").textContent.includes("BEGIN:VCARD"));
  wire[card].querySelector("details").open = true;
  all.filter((one) => !wire.slice(0, card + 1).includes(one)).forEach((one) => one.remove());
}
"""

# Every box with a colour or a line, every line of text, in the order in which they are painted; a part that scrolls
# is a list of its own, cut to its box.
WALK = r"""
() => {
  const pen = document.createElement("canvas").getContext("2d");
  const round = (value) => Math.round(value * 10) / 10;
  const seen = (colour) => colour !== "rgba(0, 0, 0, 0)" && colour !== "transparent";
  const hidden = (style, box) => style.visibility === "hidden" || style.opacity === "0" || style.clipPath !== "none" ||
    box.right < 0 || box.width === 0 || box.height === 0;

  function lines(node, style, out) {
    const range = document.createRange();
    let line = null, at = 0;
    for (const sign of node.data) {
      range.setStart(node, at); range.setEnd(node, at += sign.length);
      const box = range.getClientRects()[0];
      if (!box || !box.width) continue;
      if (!line || Math.abs(box.top - line.top) > 2)
        out.push(line = { top: box.top, x: box.left, right: box.right, text: "" });
      line.text += /\s/.test(sign) ? " " : sign;
      line.right = Math.max(line.right, box.right);
    }
  }

  function write(text, x, top, width, style, out) {
    pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    const y = top + pen.measureText("x").fontBoundingBoxAscent;
    out.push({ text, x: round(x), y: round(y), width: round(width), size: parseFloat(style.fontSize),
      colour: style.color, bold: parseInt(style.fontWeight) > 500, mono: style.fontFamily.includes("mono"),
      underlined: style.textDecorationLine === "underline" });
  }

  function paint(box, style, out) {
    const shape = { x: round(box.left), y: round(box.top), w: round(box.width), h: round(box.height),
      r: Math.min(parseFloat(style.borderTopLeftRadius) || 0, box.height / 2) };
    const sides = ["Top", "Right", "Bottom", "Left"].map((side) => parseFloat(style[`border${side}Width`]));
    const even = sides.every((width) => width === sides[0]);
    const stroke = even && sides[0] && seen(style.borderTopColor) ? style.borderTopColor : null;
    if (seen(style.backgroundColor) || stroke)
      out.push({ ...shape, fill: seen(style.backgroundColor) ? style.backgroundColor : null, stroke });
    if (even) return;
    const [above, , below] = sides;
    if (above) out.push({ ...shape, h: above, r: 0, fill: style.borderTopColor });
    if (below) out.push({ ...shape, y: round(box.bottom - below), h: below, r: 0, fill: style.borderBottomColor });
  }

  function walk(element, out) {
    const style = getComputedStyle(element);
    if (style.display === "none") return;
    const box = element.getBoundingClientRect();
    if (style.display !== "contents" && hidden(style, box)) return;
    paint(box, style, out);
    if (element.matches("input, textarea, select")) {
      const value = element.matches("select") ? element.selectedOptions[0].text : element.value;
      pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
      const size = pen.measureText(value);
      const height = size.fontBoundingBoxAscent + size.fontBoundingBoxDescent;
      const x = box.left + parseFloat(style.paddingLeft) + 1;
      if (value && element.type !== "checkbox")
        write(value, x, box.top + (box.height - height) / 2, size.width, style, out);
      return;
    }
    let inner = out;
    if (style.overflowY !== "visible" && element !== document.body) {
      const clip = { x: round(box.left), y: round(box.top), w: round(box.width), h: round(box.height) };
      out.push({ clip, inner: (inner = []) });
    }
    if (element.matches("summary")) {
      const first = document.createRange();  // its mark is no text of the document
      first.selectNodeContents(element);
      const mark = element.parentElement.open ? "▾" : "▸";
      write(mark, box.left, first.getClientRects()[0].top, parseFloat(style.fontSize) * 0.7, style, inner);
    }
    for (const child of element.childNodes) {
      if (child.nodeType === Node.ELEMENT_NODE) {
        const folded = element.matches("details:not([open])") && !child.matches("summary");
        if (!folded && !child.matches("script")) walk(child, inner);
      } else if (child.nodeType === Node.TEXT_NODE && child.data.trim()) {
        const found = [];
        lines(child, style, found);
        for (const line of found) {
          const text = line.text.trimEnd();
          if (text.trim()) write(text, line.x, line.top, line.right - line.x, style, inner);
        }
      }
    }
  }

  const shapes = [];
  window.scrollTo(0, 0);
  walk(document.body, shapes);
  return { shapes, height: document.querySelector("#wire").getBoundingClientRect().bottom,
    ground: getComputedStyle(document.body).backgroundColor };
}
"""


@contextmanager
def demo() -> Iterator[str]:
    """A demo of its own that has played its story and serves; the address of its page."""
    base = free_base()
    DATA.mkdir(parents=True, exist_ok=True)
    log = DATA / "demo.out"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "runtime.command", "demo",
             "--data-dir", str(DATA / "data"), "--port-base", str(base)],
            stdout=output, stderr=output, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + STORY_S
        while "serving:" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the demo does not serve: {log.read_text()[-1_000:]}")
            time.sleep(0.2)
        if "FAILED" in log.read_text():
            sys.exit(f"the story failed, so there is nothing to show: {log.read_text()}")
        yield f"http://127.0.0.1:{base + 83}/"
    finally:
        process.terminate()
        process.wait(60)


def walked(page_url: str) -> dict[str, Any]:
    """What the page shows, as shapes."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light", locale="en-GB")
            page.goto(f"{page_url}?lang=en")
            phone = page.locator("article.phone").nth(1)
            phone.get_by_label("Text").fill("ADD Amina 0722000111 Choir")
            phone.get_by_role("button", name="Send").click()
            phone.locator(".latest", has_text="Business card").wait_for()
            page.locator("#wire > li summary", has_text="submit_sm_resp").first.wait_for()
            page.wait_for_timeout(1_000)  # the last receipts on the wire
            page.evaluate(SET_THE_SCENE)
            found: dict[str, Any] = page.evaluate(WALK)
            return found
        finally:
            browser.close()


class Drawing:
    """The SVG while it is written; a shape outside of what can be seen is left out."""

    def __init__(self, height: float) -> None:
        self.parts: list[str] = []
        self._height = height
        self._clips = 0

    def draw(self, shapes: list[dict[str, Any]], top: float = 0.0, bottom: float | None = None) -> None:
        bottom = self._height if bottom is None else bottom
        for shape in shapes:
            if "clip" in shape:
                self._clipped(shape["clip"], shape["inner"])
            elif "text" in shape:
                if top <= shape["y"] and shape["y"] - shape["size"] <= bottom:
                    self.parts.append(_text(shape))
            elif shape["y"] < bottom and shape["y"] + shape["h"] > top:
                self.parts.append(_box(shape))

    def _clipped(self, box: dict[str, float], inner: list[dict[str, Any]]) -> None:
        self._clips += 1
        name = f"c{self._clips}"
        self.parts.append(
            f'<clipPath id="{name}"><rect x="{_n(box["x"])}" y="{_n(box["y"])}" width="{_n(box["w"])}"'
            f' height="{_n(box["h"])}"/></clipPath><g clip-path="url(#{name})">'
        )
        self.draw(inner, box["y"], box["y"] + box["h"])
        self.parts.append("</g>")


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _hex(colour: str) -> str:
    """ "rgb(1, 2, 3)" as "#010203"."""
    red, green, blue = (int(float(part)) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _box(shape: dict[str, Any]) -> str:
    fill = _hex(shape["fill"]) if shape.get("fill") else "none"
    stroke = f' stroke="{_hex(shape["stroke"])}"' if shape.get("stroke") else ""
    radius = f' rx="{_n(shape["r"])}"' if shape["r"] else ""
    return (
        f'<rect x="{_n(shape["x"])}" y="{_n(shape["y"])}" width="{_n(shape["w"])}" height="{_n(shape["h"])}"'
        f'{radius} fill="{fill}"{stroke}/>'
    )


def _text(shape: dict[str, Any]) -> str:
    style = "".join((
        ' class="m"' if shape["mono"] else "",
        ' font-weight="600"' if shape["bold"] else "",
        ' text-decoration="underline"' if shape["underlined"] else "",
    ))  # fmt: skip
    return (
        f'<text x="{_n(shape["x"])}" y="{_n(shape["y"])}" font-size="{_n(shape["size"])}"'
        f' fill="{_hex(shape["colour"])}"{style}'
        f' textLength="{_n(shape["width"])}" lengthAdjust="spacingAndGlyphs">{escape(shape["text"])}</text>'
    )


def svg(found: dict[str, Any]) -> str:
    """The whole picture."""
    height = found["height"] + MARGIN
    drawing = Drawing(height)
    drawing.draw(found["shapes"])
    size = f'viewBox="0 0 {WIDTH} {_n(height)}" role="img"'
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} aria-label={quoteattr(TITLE)}>',
        f"<title>{escape(TITLE)}</title>",
        f"<style>text{{font-family:{FONTS['sans']};white-space:pre}}.m{{font-family:{FONTS['mono']}}}</style>",
        f'<rect width="{WIDTH}" height="{_n(height)}" fill="{_hex(found["ground"])}"/>',
        *drawing.parts,
        "</svg>\n",
    ))  # fmt: skip


def main() -> None:
    """Draw the picture and say how large it is."""
    with demo() as page_url:
        found = walked(page_url)
    picture = svg(found)
    PICTURE.write_text(picture, encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {len(picture.encode()) >> 10} KiB")


if __name__ == "__main__":
    main()
