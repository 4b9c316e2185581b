/**
 * Two people use the page in a real browser, on a service that restarts and whose Redis is emptied.
 *
 * Arguments: the address, and a folder for screenshots, which are made only if it is given. The one who runs this program causes the
 * faults: a line `DO name` asks for one, and a line on the standard input says that it is done. The environment has the tokens of users 1 to 3.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [address, pictures] = process.argv.slice(2);
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** The console of a browser has a line for each request that is not answered, also while the service is meant to be away. */
let away = false;
const faults = [];

async function cause(fault) {
  console.log(`DO ${fault}`);
  const { done } = await answers.next();
  assert.ok(!done, "the one who causes the faults has gone");
}

async function step(what, work) {
  const begin = Date.now();
  await work();
  assert.deepEqual(faults, [], what);
  console.log(`${what}: ${Date.now() - begin} ms`);
}

async function api(user, method, path, body) {
  const init = { method, headers: { authorization: `Bearer ${process.env[`TOKEN_${user}`]}`, "content-type": "application/json" } };
  if (body) init.body = JSON.stringify(body);
  const answer = await fetch(address + path, init);
  return { status: answer.status, retryAfter: Number(answer.headers.get("retry-after")) };
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim(),
  // A container has no user namespaces for the sandbox, and this browser opens no page but the test's own.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", colorScheme: "light" });
context.setDefaultTimeout(30_000);

function watch(page) {
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (line) => {
    if (line.type() === "error" && !away) faults.push(line.text());
  });
  page.on("dialog", (dialog) => void dialog.accept());
  return page;
}

const pane = (page, user) => page.locator(`.pane[data-user="${user}"]`);
const online = (page, user) => page.locator(`.pane[data-user="${user}"][data-online="true"]`).waitFor();

async function say(page, user, text) {
  await pane(page, user).getByLabel("Write a message").fill(text);
  await pane(page, user).getByRole("button", { name: "Send", exact: true }).click();
}

const message = (page, user, text) => pane(page, user).locator(".message", { hasText: text });

async function picture(page, name) {
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png` });
}

async function accessible(page, what) {
  // The page's policy takes no foreign script. The debugger's is no concern of the policy.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
  assert.deepEqual(told, [], what);
}

const first = watch(await context.newPage());
const second = watch(await context.newPage());

await step("a person says who they are", async () => {
  await first.goto(address);
  await accessible(first, "the start");
  await picture(first, "page-start");
  await first.getByLabel("User id, a number").fill("x");
  await first.getByRole("button", { name: "Start", exact: true }).click();
  await first.getByRole("alert").filter({ hasText: "whole number" }).waitFor();
  await first.getByLabel("User id, a number").fill("1");
  await first.keyboard.press("Enter");
  await online(first, "1");
  await second.goto(`${address}/?users=2`);
  await online(second, "2");
});

await step("two people talk", async () => {
  await pane(first, "1").getByLabel("Write to user").fill("2");
  await first.keyboard.press("Enter");
  await pane(first, "1").getByLabel("Write a message").waitFor();
  await say(first, "1", "Hello! Did you get the photos?");
  await pane(second, "2").locator(".row").click();
  await message(second, "2", "Hello! Did you get the photos?").waitFor();
  await pane(second, "2").getByLabel("Write a message").pressSequentially("Ye", { delay: 20 });
  await pane(first, "1").locator(".with .last", { hasText: "typing" }).waitFor();
  await say(second, "2", "Yes, they are lovely 🦢 谢谢你！");
  await message(first, "1", "Yes, they are lovely").waitFor();
});

await step("a sender sees the way of a message, and that it was read", async () => {
  await message(first, "1", "Hello! Did").locator(".way .done", { hasText: /^Redis \d+\.\d ms$/ }).waitFor();
  await message(first, "1", "Hello! Did").locator(".way .done", { hasText: "MySQL ≤" }).waitFor();
  await message(first, "1", "Hello! Did").getByRole("img", { name: "Read" }).waitFor();
});

await step("typed markup stays text", async () => {
  const markup = `<img src=x onerror="document.title='hacked'"><b>bold</b>`;
  await say(first, "1", markup);
  const shown = message(second, "2", "onerror").locator(".content");
  await shown.waitFor();
  assert.equal(await shown.textContent(), markup);
  assert.equal(await second.locator(".message img:not([role])").count(), 0);
  assert.notEqual(await second.title(), "hacked");
});

await step("a message that is taken back is gone on both sides", async () => {
  await say(first, "1", "SECRET words");
  const mine = message(first, "1", "SECRET words");
  await message(second, "2", "SECRET words").waitFor();
  await mine.locator(".way .done", { hasText: "MySQL ≤" }).waitFor();
  await mine.hover();
  await mine.getByRole("button", { name: "Message options" }).click();
  await first.getByRole("button", { name: /Take back: [45]:\d\d left/ }).click();
  await pane(first, "1").getByText("You took a message back").first().waitFor();
  await pane(second, "2").getByText("The other user took a message back").first().waitFor();
  for (const page of [first, second]) assert.ok(!(await page.content()).includes("SECRET"));
});

await step("a message deleted by one stays with the other", async () => {
  const theirs = message(second, "2", "Hello! Did");
  const options = theirs.getByRole("button", { name: "Message options" });
  await options.focus();
  await second.keyboard.press("Enter");
  await theirs.getByRole("button", { name: "Delete for me" }).focus();
  await second.keyboard.press("Escape");
  await theirs.getByRole("button", { name: "Delete for me" }).waitFor({ state: "detached" });
  assert.ok(await options.evaluate((button) => button === document.activeElement), "the focus is back at the menu's button");
  await second.keyboard.press("Enter");
  await second.getByRole("button", { name: "Delete for me" }).click();
  await theirs.waitFor({ state: "detached" });
  await message(first, "1", "Hello! Did").waitFor();
});

await step("a blocked user is told so", async () => {
  await pane(second, "2").getByRole("button", { name: "Block", exact: true }).click();
  await pane(second, "2").getByRole("button", { name: "Unblock" }).waitFor();
  away = true; // The console tells of the 403.
  await say(first, "1", "are you there?");
  await pane(first, "1").getByText("This user takes no messages from you.").waitFor();
  await pane(second, "2").getByRole("button", { name: "Unblock" }).click();
  await pane(second, "2").getByRole("button", { name: "Block", exact: true }).waitFor();
  await pane(first, "1").getByRole("button", { name: "Try again" }).click();
  await message(second, "2", "are you there?").waitFor();
  away = false;
});

await step("the pages come back after a restart, and a message written meanwhile is sent", async () => {
  away = true;
  const restarted = cause("restart");
  await pane(first, "1").locator(".offline").waitFor();
  await say(first, "1", "written while the service was away");
  await restarted;
  await online(first, "1");
  await online(second, "2");
  away = false;
  await message(second, "2", "written while the service was away").waitFor();
  await message(first, "1", "written while").locator(".way .done", { hasText: "MySQL ≤" }).waitFor();
});

await step("the pages stay right after Redis was emptied", async () => {
  away = true;
  await cause("empty");
  // Redis has forgotten the connections too: the next sign of life closes them, and the pages connect again.
  await cause("cut");
  await online(first, "1");
  await online(second, "2");
  away = false;
  await say(second, "2", "after Redis was emptied");
  await message(first, "1", "after Redis was emptied").waitFor();
  assert.ok(!(await first.content()).includes("SECRET") && !(await second.content()).includes("SECRET"));
});

await step("a person pages back through 500 messages", async () => {
  for (let sent = 0; sent < 500; ) {
    const batch = Array.from({ length: Math.min(20, 500 - sent) }, (_, place) => sent + place);
    const done = await Promise.all(
      batch.map((place) => api("3", "POST", "/messages", { toId: "4", content: `line ${place}`, clientMsgId: `line ${place}` })),
    );
    assert.deepEqual(done.filter(({ status }) => ![200, 201, 429].includes(status)), [], "the messages are accepted");
    const wait = Math.max(0, ...done.filter(({ status }) => status === 429).map(({ retryAfter }) => retryAfter));
    if (wait === 0) sent += batch.length;
    else await new Promise((resolve) => setTimeout(resolve, wait * 1000));
  }
  const third = watch(await context.newPage());
  await third.goto(`${address}/?users=4`);
  await online(third, "4");
  await pane(third, "4").locator(".row").click();
  await message(third, "4", /^line 499/).waitFor();
  const rows = pane(third, "4").locator(".message");
  for (let before = -1; (await pane(third, "4").getByRole("button", { name: "Load older messages" }).count()) > 0; ) {
    before = await rows.count();
    await pane(third, "4").getByRole("button", { name: "Load older messages" }).click();
    await third.waitForFunction((count) => document.querySelectorAll(".message").length > count, before);
  }
  const lines = await rows.locator(".content").allTextContents();
  assert.equal(lines.length, 500);
  assert.equal(new Set(lines).size, 500, "no line twice");
  await third.close();
});

await step("two users side by side, in both languages, light and dark, and at a phone's width", async () => {
  const both = watch(await context.newPage());
  await both.goto(`${address}/?users=1,2`);
  await online(both, "1");
  await online(both, "2");
  await say(both, "1", "Shall we meet on Friday?");
  await message(both, "2", "Shall we meet on Friday?").waitFor();
  await say(both, "2", "鸿雁传书，一字不差。");
  await message(both, "1", "鸿雁传书").waitFor();
  await message(both, "2", "鸿雁传书").locator(".way .done", { hasText: "MySQL ≤" }).waitFor();
  await both.locator(".numbers strong").first().waitFor();
  await accessible(both, "two users, light");
  await picture(both, "page-two-users");
  await both.emulateMedia({ colorScheme: "dark" });
  await both.getByRole("button", { name: "中文" }).click();
  await both.getByRole("button", { name: "发送", exact: true }).first().waitFor();
  await accessible(both, "two users, dark, Chinese");
  await picture(both, "page-dark-zh");
  await both.goto(`${address}/?users=1`);
  await both.setViewportSize({ width: 390, height: 844 });
  await online(both, "1");
  await accessible(both, "a phone, the list");
  await both.locator(".row").first().click();
  await message(both, "1", "鸿雁传书").waitFor();
  await accessible(both, "a phone, a conversation");
  const wide = await both.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wide, 0, "nothing is wider than the screen");
  await picture(both, "page-phone");
  await both.close();
});

await step("a person clears a conversation, with the keyboard alone", async () => {
  const clear = pane(second, "2").getByRole("button", { name: "Clear for me" });
  await clear.focus();
  await second.keyboard.press("Enter");
  await pane(second, "2").getByText("No messages yet").waitFor();
  await message(first, "1", "Shall we meet on Friday?").waitFor();
});

await browser.close();
console.log("all steps passed");
process.exit(0);
