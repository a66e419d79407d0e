// A web client in headless Chromium: the only client that keeps cookies and sends them with everything, the socket, the
// images and the film's pieces included.
//
// The page's content and its modules are laid into the server's own page by the browser's driver, all else comes from the
// server.

import { readFile } from 'node:fs/promises';
import { readFileSync, rmSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { chromium } from 'playwright-core';

import { HLS_ONLY, expect, firstFilm, playing, run, until } from './story.mjs';

const PACKAGES = new URL('node_modules/', import.meta.url);
const PLACE = '/web/story/';
const FLAGS = [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required', '--ignore-certificate-errors'
];
const PAGE = `<!doctype html><title>story</title><body>
<script type="importmap">{"imports": {
    "@jellyfin/sdk/": "${PLACE}@jellyfin/sdk/", "axios": "${PLACE}axios/dist/esm/axios.js", "hls.js": "${PLACE}hls.js/dist/hls.mjs"
}}</script>
<script src="${PLACE}jellyfin-apiclient/dist/jellyfin-apiclient.js"></script>
<script type="module" src="${PLACE}page.mjs"></script>`;

async function tell(story) {
    const profile = mkdtempSync(path.join(tmpdir(), 'jellypin-chromium-'));
    const browser = await chromium.launchPersistentContext(profile, {
        executablePath: '/usr/bin/chromium', args: FLAGS, headless: false
    });
    try {
        await tellInside(story, browser);
    } finally {
        await browser.close();
        rmSync(profile, { recursive: true, force: true });
    }
}

async function tellInside(story, browser) {
    const page = await openPage(story, browser);
    const call = (...words) => page.evaluate(words => window.story.call(...words), words);

    const server = await story.step('public info', () => call('getPublicSystemInfo'));
    await story.step('log-in', () =>
        page.evaluate(([user, password]) => window.story.logIn(user, password), [story.user, story.password]));
    await story.step('system info', () => call('getSystemInfo'));
    await story.step('user', async () => {
        // Not getCurrentUser: when that fails, it answers with what it remembers.
        const user = await call('getUser', await call('getCurrentUserId'));
        expect(user.Name === story.user, `the user is ${user.Name}`);
    });
    const film = await story.step('items', async () => {
        const kind = story.channel ? 'TvChannel' : 'Movie';
        const found = await call('getItems', null, { recursive: true, includeItemTypes: kind, limit: 5 });
        return firstFilm(found.Items.filter(item => item.Type === kind));
    });
    if (!story.channel) {
        await story.step('image', () => page.evaluate(item => window.story.showImage(item), film.Id));
    }
    await openSocket(story, page, call, server.Version);
    const playSession = await play(story, page, call, film);
    if (story.holds) {
        await hold(story, page, call, film, playSession);
        await story.step('remote control after the hold', () => tellSession(story, page, call));
    }
    await story.step('playback stops', () => call('reportPlaybackStopped', report(film, playSession, 3)));
    await story.step('reload', async () => {
        await loadPage(story, page);
        await page.evaluate(() => window.story.resume());
        await call('getSystemInfo');
        await call('getUser', await call('getCurrentUserId'));
    });
    if (!story.stays) {
        await story.step('log-out', () => call('logout'));
    }
}

async function openPage(story, browser) {
    const page = browser.pages()[0] ?? await browser.newPage();
    page.on('console', message => message.type() === 'error' && console.error(`page: ${message.text()}`));
    page.on('pageerror', error => console.error(`page: ${error}`));
    await page.route(address => address.pathname.startsWith(PLACE), layIn);
    await story.step('web page', async () => {
        await loadPage(story, page);
    });
    const cookies = await browser.cookies(story.url);
    story.facts = { cookies: cookies.map(({ name, httpOnly, sameSite, secure }) => ({ name, httpOnly, sameSite, secure })) };
    return page;
}

async function loadPage(story, page) {
    // The document is the server's own: a browser gets its cookie with it, and takes no socket from one without an address.
    const answer = await page.goto(`${story.url}/web/index.html`);
    expect(answer.ok(), `the web page answered ${answer.status()}`);
    await page.setContent(PAGE);
    await until('the page', () => page.evaluate(() => window.storyReady === true));
    await page.evaluate(device => window.story.begin(device), story.device);
}

// Answers for the modules; the packages are read from disk as they are.
async function layIn(route) {
    const name = new URL(route.request().url()).pathname.slice(PLACE.length);
    const file = name === 'page.mjs' ? new URL('browser_page.mjs', import.meta.url) : new URL(name, PACKAGES);
    return route.fulfill({ contentType: 'text/javascript', body: await readFile(file) });
}

async function openSocket(story, page, call, serverVersion) {
    await story.step('socket', async () => {
        await page.evaluate(version => window.story.openSocket(version), serverVersion);
        await until('ForceKeepAlive', () => heard(page, 'ForceKeepAlive'));
        await until('the answer to KeepAlive', () => heard(page, 'KeepAlive'));
    });
    await story.step('remote control', async () => {
        await call('reportCapabilities', {
            PlayableMediaTypes: ['Video'], SupportedCommands: ['DisplayMessage'], SupportsMediaControl: true
        });
        await tellSession(story, page, call);
    });
}

// A message to the own session comes back by the socket only where both are on one pod.
async function tellSession(story, page, call) {
    const own = (await call('getSessions')).find(one => one.DeviceId === story.device);
    const before = await heard(page, 'GeneralCommand');
    await call('sendMessageCommand', expect(own, 'the own session is not listed').Id, { Text: 'hello', TimeoutMs: 1000 });
    await until('the GeneralCommand', async () => await heard(page, 'GeneralCommand') > before);
}

async function play(story, page, call, film) {
    const { source, playSession } = await story.step('PlaybackInfo', async () => {
        const info = await call('getPlaybackInfo', film.Id, { AutoOpenLiveStream: story.channel }, HLS_ONLY);
        const source = info.MediaSources[0];
        if (story.live) {
            source.TranscodingUrl = await livePlaylist(story, page, film, info);
        }
        expect(source.TranscodingUrl, 'no TranscodingUrl for a profile that takes HLS only');
        return { source, playSession: info.PlaySessionId };
    });
    await story.step('HLS plays', async () => {
        await page.evaluate(address => window.story.playFilm(address), story.url + source.TranscodingUrl);
        await until('three seconds of film', async () => {
            const { film } = await page.evaluate(() => window.story.state());
            expect(film.ended === null, `the film ended: ${film.ended}`);
            return film.played > 3;
        });
    });
    await story.step('playback', async () => {
        await call('reportPlaybackStart', report(film, playSession, 0));
        await call('reportPlaybackProgress', report(film, playSession, 3));
        await until('a Sessions message', () => heard(page, 'Sessions'));
    });
    return playSession;
}

// The address of a playlist that grows, which real pods name in the master playlist of such an item.
async function livePlaylist(story, page, film, info) {
    const [source] = info.MediaSources;
    const query = {
        DeviceId: story.device, MediaSourceId: source.Id, PlaySessionId: info.PlaySessionId,
        ApiKey: await page.evaluate(() => JSON.parse(localStorage.getItem('story')).token)
    };
    if (story.channel) {
        query.LiveStreamId = expect(source.LiveStreamId, 'the channel was not opened');
    }
    return `/Videos/${film.Id}/live.m3u8?${new URLSearchParams(query)}`;
}

async function hold(story, page, call, film, playSession) {
    const before = await page.evaluate(() => window.story.state());
    const held = story.beginHold();
    for await (const number of held.rounds()) {
        if (number % 5 === 4) {
            const { film: { position } } = await page.evaluate(() => window.story.state());
            await held.call('POST /Sessions/Playing/Progress', () =>
                call('reportPlaybackProgress', report(film, playSession, position)));
        } else {
            await held.call('GET /System/Info', () => call('getSystemInfo'));
        }
    }
    const after = await page.evaluate(() => window.story.state());
    held.facts = {
        token_lost: held.failures.some(failure => failure.why.includes('401')),
        socket_closed: after.heard.socketClosed - before.heard.socketClosed,
        film_ended: after.film.ended === null ? [] : [after.film.ended],
        longest_still_ms: after.film.longest,
        stalls_ms: after.film.stalls.slice(before.film.stalls.length),
        played_s: Math.round((after.film.played - before.film.played) * 10) / 10
    };
}

// An event that the library sends at once; it keeps others back for seconds.
function report(film, playSession, second) {
    return { ...playing(film, { Id: film.Id }, playSession, second, 'Transcode'), EventName: 'unpause' };
}

async function heard(page, message) {
    return (await page.evaluate(() => window.story.state())).heard[message] ?? 0;
}

const manifest = JSON.parse(readFileSync(new URL('jellyfin-apiclient/package.json', PACKAGES)));
await run('chromium', manifest.version, tell);
