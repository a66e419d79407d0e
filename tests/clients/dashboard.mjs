// An operator with the dashboard in headless Chromium: signs in, looks, searches, drains, moves a session, by mouse and by
// keyboard. axe-core looks for what people with other senses miss. With --shots DIR it leaves pictures.

import { readFileSync, rmSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { chromium } from 'playwright-core';

import { expect, run, until } from './story.mjs';

const AXE = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const FLAGS = [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'
];
// A stranger chooses the name of a device.
const HOSTILE = '<img src=x onerror="document.title=\'taken\'">';
const AT_ONCE = 12;

async function tell(story) {
    const profile = mkdtempSync(path.join(tmpdir(), 'jellypin-dashboard-'));
    const browser = await chromium.launchPersistentContext(profile, {
        executablePath: '/usr/bin/chromium', args: FLAGS, headless: false, viewport: { width: 1280, height: 900 }
    });
    try {
        await tellInside(story, browser);
    } finally {
        await browser.close();
        rmSync(profile, { recursive: true, force: true });
    }
}

async function tellInside(story, browser) {
    const page = browser.pages()[0] ?? await browser.newPage();
    const complaints = [];
    page.on('console', message => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
    page.on('pageerror', error => complaints.push(String(error)));
    page.on('request', request => {
        const isOwn = request.url().startsWith(story.admin) || request.url().startsWith('data:');
        if (!isOwn) complaints.push(`a request to ${request.url()}`);
    });
    const shot = name => story.shots ? page.screenshot({ path: path.join(story.shots, `${name}.png`) }) : null;

    await story.step('clients sign in', () => signInClients(story, story.sessions));
    await story.step('sign-in', () => signIn(story, page, shot));
    await story.step('who is where', () => who(story, page, complaints));
    await shot('dashboard');
    await story.step('accessible', () => accessible(story, page, shot));
    await story.step('live updates', async () => {
        await clientSignsIn(story, 'bob', 'bobs-new-phone', 'Phone of Bob');
        await until('the new row', () => page.locator('tr', { hasText: 'Phone of Bob' }).count());
    });
    await story.step('drain by keyboard', () => drain(page, shot));
    await story.step('move', () => move(page));
    await story.step('reload', async () => {
        await page.reload();
        await until('the page is live', async () => await page.locator('#connection').textContent() === 'Live');
    });
    if (story.holds) {
        // The test kills a pod now.
        story.beginHold();
        await story.step('a pod dies', async () => {
            const words = () => page.locator('#sentences').textContent();
            await until('the verdict', async () => /Pod \w+ is down since .*\./.test(await words()));
            expect(await page.locator('#verdict').getAttribute('data-level') === 'look', await words());
            await until('the event', () => page.locator('#events', { hasText: 'pod is down' }).count());
            await shot('pod-down');
        });
    }
    await story.step('sign-out', async () => {
        await page.locator('#sign-out button').click();
        await page.waitForURL(`${story.admin}/sign-in?out`);
        expect((await page.locator('main').textContent()).includes('signed out'), 'no word of the sign-out');
        expect((await page.request.get(`${story.admin}/overview`)).status() === 401, 'the cookie is still good');
    });
    await story.step('no complaint of the browser', () => expect(complaints.length === 0, complaints.join('; ')));
}

async function clientSignsIn(story, user, id, name) {
    const quoted = text => encodeURIComponent(text);
    const authorization = `MediaBrowser Client="Story App", Device="${quoted(name)}", DeviceId="${quoted(id)}", Version="1"`;
    const post = (target, body, token) => fetch(story.url + target, {
        method: 'POST',
        headers: { authorization: authorization + (token ? `, Token="${token}"` : ''), 'content-type': 'application/json' },
        body: JSON.stringify(body)
    });
    const password = user.startsWith('user') ? 'pw' : `${user}-pw`;
    const answer = await post('/Users/AuthenticateByName', { Username: user, Pw: password });
    expect(answer.ok, `the log-in of ${user} answered ${answer.status}`);
    const token = (await answer.json()).AccessToken;
    return (target, body) => post(target, body, token);
}

async function signInClients(story, count) {
    const hostile = await clientSignsIn(story, 'alice', 'hostile', HOSTILE);
    const films = await fetch(`${story.url}/Items?recursive=true&includeItemTypes=Movie&limit=1`, {
        headers: { authorization: `MediaBrowser Token="${await token(story)}"` }
    });
    const [film] = (await films.json()).Items;
    const plays = (post, minutes) => post('/Sessions/Playing', {
        ItemId: film.Id, PositionTicks: minutes * 60 * 10_000_000, PlayMethod: 'DirectPlay'
    });
    await plays(hostile, 0);
    const names = ['Living room', 'Kitchen tablet', 'Phone', 'Firefox', 'Bedroom'];
    const one = async number => {
        const post = await clientSignsIn(story, `user${number}`, `device-${number}`, names[number % names.length]);
        if (number % 7 === 0) await plays(post, 0);
    };
    const numbers = Array.from({ length: count - 1 }, (_, number) => number);
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
        while (numbers.length) await one(numbers.shift());
    }));
}

async function token(story) {
    const answer = await fetch(`${story.url}/Users/AuthenticateByName`, {
        method: 'POST',
        headers: {
            authorization: 'MediaBrowser Client="Story App", Device="Look", DeviceId="look", Version="1"',
            'content-type': 'application/json'
        },
        body: JSON.stringify({ Username: story.user, Pw: story.password })
    });
    return (await answer.json()).AccessToken;
}

async function signIn(story, page, shot) {
    await page.goto(`${story.admin}/`);
    expect(page.url() === `${story.admin}/sign-in`, `the browser is at ${page.url()}`);
    await axe(page, 'sign-in');
    await page.getByLabel('Token of [admin]').fill('wrong');
    await page.getByRole('button', { name: 'Sign in by token' }).click();
    await page.getByRole('alert').waitFor();
    await shot('sign-in');
    await page.getByLabel('Name').fill('root');
    await page.getByLabel('Password').fill('root-pw');
    await page.getByRole('button', { name: 'Sign in by name' }).click();
    await page.waitForURL(`${story.admin}/`);
    await until('the page is live', async () => await page.locator('#connection').textContent() === 'Live');
    expect(await page.locator('#operator').textContent() === 'root', 'the name is not shown');
}

async function who(story, page, complaints) {
    // One more of this script itself, which looked for the film.
    const all = story.sessions + 1;
    await until('all sessions', async () => await page.locator('#count').textContent() === `${all} sessions`);
    await until('the verdict', async () => await page.locator('#sentences').textContent() === 'All well.');
    const row = page.locator('tr', { has: page.locator('td', { hasText: '<img' }) });
    await until('names and titles', async () => /alice/.test(await row.textContent()) && /\d\d:\d\d/.test(await row.textContent()));
    expect((await row.locator('td').first().textContent()).startsWith(HOSTILE), await row.textContent());
    expect(await page.locator('img').count() === 0, 'the name of a device made a picture');
    expect(await page.title() === 'jellypin', `the title is ${await page.title()}`);
    expect(complaints.length === 0, complaints.join('; '));
    await page.locator('#search').fill('user7 living');
    const shown = await page.locator('#clients tbody tr:visible').count();
    expect(shown < all && await page.locator('#count').textContent() === `${shown} of ${all}`, `${shown} rows are shown`);
    await page.locator('#search').fill('');
    expect(await page.locator('#clients tbody tr:visible').count() === all, 'not all are shown again');
}

/** Looks with axe-core in each form of the page, and leaves a picture of it. */
async function accessible(story, page, shot) {
    await axe(page, 'light');
    await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
    await axe(page, 'dark');
    await shot('dark');
    await page.setViewportSize({ width: 390, height: 844 });
    await axe(page, 'phone');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    expect(wide <= 0, `the page is ${wide} pixels wider than a phone`);
    await shot('phone');
    await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'no-preference' });
    await page.setViewportSize({ width: 1280, height: 900 });
}

async function axe(page, where) {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => window.axe.run(document, {
        runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
    }));
    const words = violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 160)}`);
    expect(words.length === 0, `${where}: ${words.join('; ')}`);
}

async function drain(page, shot) {
    const card = page.locator('#pods > li', { hasText: /^a/ });
    const button = card.getByRole('button', { name: 'Drain pod a' });
    // Enter alone does no harm: the first answer is to cancel.
    await button.focus();
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog');
    await dialog.waitFor();
    await axe(page, 'dialog');
    await shot('drain');
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    await button.focus();
    await page.keyboard.press('Enter');
    await dialog.waitFor();
    await dialog.getByLabel('All at once, even while they play').focus();
    await page.keyboard.press('Space');
    await dialog.getByRole('button', { name: 'Drain' }).focus();
    await page.keyboard.press('Enter');
    await until('the pod drains', async () => /draining/.test(await card.textContent()));
    await until('the verdict', async () => /Pod a drains since/.test(await page.locator('#sentences').textContent()));
    await until('the event', () => page.locator('#events', { hasText: 'an operator drains a pod' }).count());
    const back = card.getByRole('button', { name: 'Take drain back from pod a' });
    await back.click();
    await dialog.getByRole('button', { name: 'Take it back' }).click();
    await until('the pod is ready', async () => /ready/.test(await card.textContent()));
}

async function move(page) {
    await page.locator('#search').fill('Phone of Bob');
    const row = page.locator('tr', { hasText: 'Phone of Bob' });
    const pod = async () => (await row.locator('td[data-name="Pod"]').textContent()).trim();
    const from = await pod();
    await row.getByRole('button', { name: /^Move bob/ }).click();
    const dialog = page.getByRole('dialog');
    const to = await dialog.locator('input[type=radio]').first().inputValue();
    await dialog.getByRole('button', { name: 'Move' }).click();
    await until('the session is there', async () => await pod() === to);
    expect(from !== to, `it was on ${from} before`);
    const why = await row.locator('td[data-name="Why"]').textContent();
    expect(why === `an operator moved it, from ${from}`, why);
    await page.locator('#search').fill('');
}

await run('dashboard', '1', tell);
