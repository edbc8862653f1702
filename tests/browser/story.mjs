// A person's whole way through the page, in a real browser, against a running service.
//
//   node tests/browser/story.mjs ADDRESS, such as http://localhost with its port
//
// Fails on anything in the console, any page error, any request to elsewhere, and on any serious fault of accessibility.
// Environment: PANFIT_TOKEN, if the service has one; PANFIT_SHOTS, a folder for pictures; CHROMIUM, PLAYWRIGHT_MODULES.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const modules = createRequire(join(process.env.PLAYWRIGHT_MODULES ?? import.meta.dirname, "node_modules", "x"));
const { chromium } = modules("playwright-core");
const axe = readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");

const base = process.argv[2];
const shots = process.env.PANFIT_SHOTS;
const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };
const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"];

const faults = [];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: QUIET });

async function open(options) {
  const context = await browser.newContext({ viewport: DESKTOP, colorScheme: "light", reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(20_000);
  await context.route("**/*", (route) => {
    const address = route.request().url();
    if (address.startsWith(base) || address.startsWith("blob:") || address.startsWith("data:")) return route.continue();
    faults.push(`a request to elsewhere: ${address}`);
    return route.abort();
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()} (${page.url()})`);
  });
  page.on("pageerror", (error) => faults.push(`page error: ${error} (${page.url()})`));
  return page;
}

async function settled(page) {
  await page.waitForFunction(() => !document.querySelector(".waiting, .htmx-request"));
}

async function check(page, name) {
  // Accessibility and a picture, light and dark, wide and narrow.
  await settled(page);
  const size = page.viewportSize();
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    for (const fault of found.violations.filter((each) => ["serious", "critical"].includes(each.impact))) {
      const where = fault.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} | ${node.failureSummary}`);
      faults.push(`${name}, ${colorScheme}: ${fault.id}: ${fault.help}\n    ${where.join("\n    ")}`);
    }
    if (shots) await picture(page, `${name}-${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(PHONE);
  const spill = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (spill > 0) faults.push(`${name}: ${spill} pixels too wide for a phone`);
  if (shots) await picture(page, `${name}-phone`);
  await page.setViewportSize(size);
}

async function picture(page, name) {
  await page.evaluate(async () => {
    for (const image of document.images) image.loading = "eager";
    await Promise.all([...document.images].filter((image) => image.src).map((image) => image.decode().catch(() => {})));
  });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

async function likes(page) {
  return Number(((await page.locator("#me-chip").innerText()).match(/(\d+) like/) ?? [0, 0])[1]);
}

async function story(page) {
  await page.goto(base + "/");
  if (process.env.PANFIT_TOKEN) {
    assert.match(page.url(), /\/login/);
    await check(page, "00-login");
    await page.getByLabel("Token").fill(process.env.PANFIT_TOKEN);
    await page.getByRole("button", { name: "Log in" }).click();
  }

  // 1. Choose a person, or start fresh.
  await page.waitForSelector(".person");
  await check(page, "01-front");
  const people = await page.locator(".person .name").allInnerTexts();
  await page.getByLabel("Find a person").fill(people[1]);
  await page.waitForFunction(() => document.querySelectorAll(".person").length === 1);
  await page.locator(".person").click();
  await settled(page);
  assert.ok((await page.locator(".outfit").count()) > 0);
  await check(page, "02-person");
  await page.getByRole("link", { name: "Start fresh" }).click();
  await page.locator(".outfit .round").first().waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  for (const place of [0, 1, 2]) {
    await page.locator(".outfit").nth(place).getByRole("button", { name: /^Like/ }).click();
    await page.waitForFunction((count) => document.querySelector("#me-chip").textContent.includes(`${count} like`), place + 1);
  }
  await page.waitForSelector(".strip .mini");
  await page.locator(".outfit").nth(3).getByRole("button", { name: /^Dislike/ }).click();
  await page.waitForSelector(".outfit:nth-of-type(4) .no.on");
  await settled(page);
  await page.getByRole("button", { name: "Undo" }).click();
  await page.waitForSelector(".outfit:nth-of-type(4) .no:not(.on)");
  await check(page, "03-fresh");

  // 2. What suits me; it changes with every like.
  await page.getByRole("link", { name: "All your outfits" }).click();
  await page.waitForSelector("#answers .outfit");
  await settled(page);
  const before = await page.locator(".outfit").evaluateAll((all) => all.map((each) => each.id));
  await page.locator(`#${before[0]}`).getByRole("button", { name: /^Like/ }).click();
  await page.waitForFunction((id) => !document.getElementById(id), before[0]);
  assert.equal(await likes(page), 4);
  await page.getByRole("button", { name: "Undo" }).click();
  await page.waitForFunction(() => document.querySelector("#me-chip").textContent.includes("3 likes"));
  await page.waitForSelector(`#${before[0]}`);
  await check(page, "04-outfits");
  await page.getByRole("link", { name: "Newly composed" }).click();
  await page.waitForSelector("#answers .outfit");
  await check(page, "05-composed");

  // 3. Where I look, and beside it where somebody else looks.
  await page.locator(".outfit .photos").first().click();
  await page.waitForSelector("#why");
  await check(page, "06-look");
  await page.getByLabel("Beside it, through the eyes of").fill(people[2]);
  await page.getByRole("button", { name: "Compare" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".gaze tbody tr").length === 3);
  await settled(page);
  const drawn = await page.locator(".gaze img[src*='/look/heat']").evaluateAll(async (all) => {
    await Promise.all(all.map((image) => image.decode()));
    return all.filter((image) => image.naturalWidth > 0).length;
  });
  assert.ok(drawn >= 2, "no heat is drawn");
  await check(page, "07-beside");
  await page.getByRole("link", { name: "All of the gaze" }).click();
  await page.waitForSelector("#why");
  await settled(page);
  const swap = page.getByRole("link", { name: "Make the swap" });
  if (await swap.count()) {
    const was = page.url();
    await swap.click();
    await page.waitForURL((address) => address.href !== was);
    await page.waitForSelector("#why");
  }

  // 4. Take one piece off, and fill the gap.
  await page.getByRole("link", { name: /^Take off/ }).first().click();
  await page.waitForSelector(".piece");
  await check(page, "08-gap");
  await page.locator(".piece").nth(1).click();
  await page.waitForSelector(".looked-at");
  await settled(page);

  // 5. A wardrobe, outfits of it, and a score of photos.
  await page.getByRole("link", { name: /^Wardrobe/ }).click();
  const tabs = page.getByRole("navigation", { name: "Category" }).getByRole("link");
  for (let place = 1; place < (await tabs.count()); place++) {
    await tabs.nth(place).click();
    await page.waitForURL(/category=/);
    for (const piece of [0, 1]) {
      await page.locator(".hanger button").nth(piece).click();
      await page.waitForFunction((count) => document.querySelector("#wardrobe-count").textContent === String(count), 2 * place - 1 + piece);
    }
  }
  await page.locator(".thumb").first().click();
  await page.waitForFunction(() => document.querySelector("#wardrobe-count").textContent === "5");
  await check(page, "09-wardrobe");
  await page.getByRole("link", { name: /^Compose outfits/ }).click();
  await page.waitForSelector(".outfit");
  await check(page, "10-own");
  await page.goto(base + "/photos");
  const photo = { name: "photo.png", mimeType: "image/png", buffer: await page.screenshot({ clip: { x: 0, y: 0, width: 90, height: 120 } }) };
  await page.locator("input[type=file]").first().setInputFiles(photo);
  await page.waitForSelector(".preview:not([hidden])");
  await page.getByRole("button", { name: "Score it" }).click();
  await page.waitForSelector("#result .huge");
  await check(page, "11-photos");

  // 6. Erase me.
  await page.locator("#me-chip a").click();
  await check(page, "12-me");
  await page.getByRole("link", { name: "Erase me" }).click();
  await check(page, "13-erase");
  await page.getByRole("button", { name: "Yes, erase me" }).click();
  await page.getByText("Erased for good").waitFor();
  assert.equal(await page.locator("#me-chip a").count(), 0);

  // Whoever likes something for a person of the model continues as him.
  await page.locator(".person").first().click();
  await page.waitForSelector(".outfit");
  await settled(page);
  await page.locator(".outfit .round").first().click();
  await page.getByText(`You continue as ${people[0]}`).waitFor();
  await check(page, "14-continued");
}

async function withoutScript(page) {
  // The same forms and links, one page after another.
  await page.goto(base + "/fresh");
  if (process.env.PANFIT_TOKEN) {
    await page.getByLabel("Token").fill(process.env.PANFIT_TOKEN);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.goto(base + "/fresh");
  }
  for (const place of [0, 1, 2]) {
    await page.locator(".outfit").nth(place).getByRole("button", { name: /^Like/ }).click();
    await page.getByText("Liked.", { exact: true }).waitFor();
  }
  await page.goto(base + "/outfits");
  await page.locator(".outfit .photos").first().click();
  await page.getByRole("heading", { name: "What would raise it" }).waitFor();
}

if (shots) mkdirSync(shots, { recursive: true });
try {
  await story(await open({}));
  await withoutScript(await open({ javaScriptEnabled: false }));
} finally {
  await browser.close();
}
for (const fault of [...new Set(faults)]) console.error(fault);
console.log(`${faults.length} faults`);
process.exitCode = faults.length ? 1 : 0;
