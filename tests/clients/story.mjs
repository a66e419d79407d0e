// A client's run, told as named steps and reported on standard output as lines of JSON: story.py for the clients that
// are written in JavaScript. The two print the same lines and end with the same exit codes.

import { writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { setTimeout as pause } from 'node:timers/promises';

// Ticks are Jellyfin's unit of media time, 100 ns.
const TICKS_A_SECOND = 10_000_000;
// No step waits longer than this for what it needs; it then fails with a sentence that says for what.
const PATIENCE_MS = 20_000;
const HOLD_PAUSE_MS = 200;
// A call that is not answered by then has failed, whatever its library thinks.
const CALL_LIMIT_MS = 30_000;

// A player that can take nothing but HLS: the pod must answer with a TranscodingUrl.
export const HLS_ONLY = {
    MaxStreamingBitrate: 400_000,
    DirectPlayProfiles: [],
    TranscodingProfiles: [
        { Container: 'ts', Type: 'Video', VideoCodec: 'h264', AudioCodec: 'aac', Protocol: 'hls', Context: 'Streaming' }
    ]
};

// Tells the whole story of one client and ends the process.
export async function run(client, version, tell) {
    const story = new Story(client, version, readArguments(client));
    // Standard output is the story's alone: what the libraries print goes where errors go.
    console.log = console.error;
    try {
        await tell(story);
    } catch (error) {
        story.failed = `${story.current}: ${sentence(error)}`;
        console.error(error?.stack ?? error);
    }
    story.say(story.report());
    process.exit(story.failed === null ? 0 : 1);
}

class Story {
    constructor(client, version, { url, user, password, device, stay, hold, live, channel, admin, sessions, shots }) {
        this.client = client;
        this.version = version;
        this.url = url.replace(/\/+$/, '');
        this.user = user;
        this.password = password;
        this.device = device;
        this.stays = stay;
        this.holds = hold;
        this.live = live || channel;
        this.channel = channel;
        this.admin = admin;
        this.sessions = Number(sessions);
        this.shots = shots;
        this.steps = [];
        this.current = 'before the first step';
        this.failed = null;
        this.facts = {};
        this.hold = null;
    }

    async step(name, does) {
        this.current = name;
        const begun = performance.now();
        let ok = false;
        try {
            const value = await does();
            ok = true;
            return value;
        } finally {
            this.steps.push({ name, ok, ms: Math.round(performance.now() - begun) });
        }
    }

    beginHold() {
        this.current = 'hold';
        this.hold = new Hold();
        this.say({ client: this.client, holding: true });
        return this.hold;
    }

    say(line) {
        writeSync(1, `${JSON.stringify(line)}\n`);
    }

    report() {
        const { client, version, steps, failed } = this;
        return { client, version, steps, failed, ...this.facts, ...(this.hold && { hold: this.hold.report() }) };
    }
}

// What a client went through between the word `holding` and the line on standard input.
class Hold {
    constructor() {
        this.begun = performance.now();
        this.ms = null;
        this.calls = 0;
        this.failures = [];
        this.facts = {};
        const end = () => { this.ms ??= Math.round(performance.now() - this.begun); };
        process.stdin.once('data', end).once('end', end).resume();
    }

    // One round each 200 ms until the end.
    async *rounds() {
        for (let number = 0; this.ms === null; number += 1) {
            yield number;
            await pause(HOLD_PAUSE_MS);
        }
    }

    async call(name, does) {
        this.calls += 1;
        try {
            return await within(CALL_LIMIT_MS, does());
        } catch (error) {
            const at = Math.round(performance.now() - this.begun);
            this.failures.push({ call: name, at_ms: at, why: sentence(error) });
            return undefined;
        }
    }

    report() {
        return {
            ms: this.ms,
            calls: this.calls,
            failed_calls: this.failures.length,
            failures: this.failures.slice(0, 5),
            ...this.facts
        };
    }
}

// Waits for a state; the deadline is only there to end a story that has gone wrong.
export async function until(what, condition) {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
        const value = await condition();
        if (value) {
            return value;
        }
        if (performance.now() > deadline) {
            throw new Error(`${what} did not come within ${PATIENCE_MS / 1000} s`);
        }
        await pause(20);
    }
}

export function expect(truth, what) {
    if (!truth) {
        throw new Error(what);
    }
    return truth;
}

// The first item that can be played as a film.
export function firstFilm(items) {
    return expect(items.find(item => item.MediaType === 'Video'), `no film among ${items.length} items`);
}

// The body of a playback report.
export function playing(item, source, playSession, seconds, method = 'DirectPlay') {
    return {
        ItemId: item.Id,
        MediaSourceId: source.Id,
        PlaySessionId: playSession,
        PositionTicks: Math.floor(seconds * TICKS_A_SECOND),
        PlayMethod: method,
        CanSeek: true,
        IsPaused: false,
        IsMuted: false
    };
}

async function within(limit, promise) {
    const ended = new AbortController();
    const late = pause(limit, null, { signal: ended.signal }).then(() => {
        throw new Error(`no answer within ${limit / 1000} s`);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        late.catch(() => {});
        ended.abort();
    }
}

function sentence(error) {
    return `${error?.name ?? 'Error'}: ${String(error?.message ?? error).split('\n')[0]}`.slice(0, 400);
}

function readArguments(client) {
    const { values } = parseArgs({
        options: {
            url: { type: 'string' },
            user: { type: 'string' },
            password: { type: 'string' },
            device: { type: 'string', default: `story-${client.replace(/\W+/g, '-')}` },
            stay: { type: 'boolean', default: false },
            hold: { type: 'boolean', default: false },
            // Where the story can: the film by a playlist that grows, or a live channel.
            live: { type: 'boolean', default: false },
            channel: { type: 'boolean', default: false },
            // Of the dashboard: its address, how many sessions it shows, and where pictures of it go.
            admin: { type: 'string' },
            sessions: { type: 'string', default: '40' },
            shots: { type: 'string' }
        }
    });
    for (const name of ['url', 'user', 'password']) {
        if (values[name] === undefined) {
            console.error(`--${name} is missing`);
            process.exit(2);
        }
    }
    return values;
}
