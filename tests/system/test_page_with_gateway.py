"""The simulator's page in a real browser with the real gateway behind it: what a newcomer does and sees."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from installation import Installation, Phones
from playwright.async_api import Browser, Page, async_playwright, expect

pytestmark = pytest.mark.slow

ZHANG, AMINA = "+8613900000001", "+254712000002"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SEEN_MS = 10_000


@pytest.fixture(scope="module")
def installation(module_folder: Path) -> Iterator[Installation]:
    with Installation(module_folder) as one:
        yield one


@pytest.fixture(scope="module")
def phones(installation: Installation) -> Phones:
    one = installation.simulator(f"{ZHANG}:张三的手机", f"{AMINA}:Amina")
    gateway = installation.gateway(one.smpp_port)
    assert gateway.config
    installation.worker(gateway.config)
    return one


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        one = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield one
        await one.close()


async def opened(browser: Browser, phones: Phones, language: str, said: list[str], width: int = 1_280) -> Page:
    page = await browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(SEEN_MS)
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda one: said.append(str(one)))
    await page.goto(f"http://127.0.0.1:{phones.port}/?lang={language}")
    await page.get_by_text("Live: the page follows" if language == "en" else "实时").first.wait_for()
    return page


async def test_a_text_typed_in_the_page_is_answered_and_the_name_stands_in_the_phone_book(
    phones: Phones, browser: Browser
) -> None:
    said: list[str] = []
    page = await opened(browser, phones, "en", said)
    await page.get_by_role("rowheader", name="smsgw").wait_for()  # the gateway's link
    amina = page.get_by_role("article", name="Amina")
    for words, answer in (("START Amina", "Welcome"), ("ADD Otieno 0712345678 Choir", "Saved: Otieno")):
        await amina.get_by_label("Text").fill(words)
        await amina.get_by_role("button", name="Send").click()
        await amina.locator(".inbox").get_by_text(answer).wait_for()  # live: nothing is loaded anew
    await amina.get_by_text("Names", exact=True).click()
    await amina.locator(".names").get_by_text("Choir/Otieno").wait_for()
    await expect(amina.locator(".names")).to_contain_text("+254712345678")
    await page.locator("#wire summary", has_text="deliver_sm").first.wait_for()
    assert said == []


async def test_the_same_in_chinese_on_a_narrow_screen(phones: Phones, browser: Browser) -> None:
    said: list[str] = []
    page = await opened(browser, phones, "zh", said, width=320)
    zhang = page.get_by_role("article", name="张三的手机")
    for words, answer in (("开始 小红", "欢迎"), ("添加 李四 13700137000 朋友", "已保存：李四")):
        await zhang.get_by_label("内容").or_(zhang.locator("textarea")).first.fill(words)
        await zhang.locator("form.compose button").click()
        await zhang.locator(".inbox").get_by_text(answer).wait_for()
    await zhang.locator(".names").get_by_text("朋友/李四").wait_for(state="attached")
    # In one go: the page follows the wire and replaces what was found a moment ago.
    width = """() => { for (const one of document.querySelectorAll("main > section details")) one.open = true;
                      return document.documentElement.scrollWidth }"""
    assert await page.evaluate(width) <= 320
    assert await page.evaluate("document.documentElement.lang") == "zh"
    assert said == []


async def test_a_link_that_is_cut_in_the_page_comes_back_by_itself(phones: Phones, browser: Browser) -> None:
    said: list[str] = []
    page = await opened(browser, phones, "en", said)
    link = page.get_by_role("rowheader", name="smsgw")
    await link.wait_for()
    await page.get_by_label("Cut the link now").fill("1")
    await page.get_by_role("button", name="Cut the link").click()
    await link.wait_for(state="detached")
    await link.wait_for()
    amina = page.get_by_role("article", name="Amina")
    await amina.get_by_label("Text").fill("HELP")
    await amina.get_by_role("button", name="Send").click()
    await amina.locator(".latest").get_by_text("STOP").wait_for()
    assert said == []
