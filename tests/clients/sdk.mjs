// @jellyfin/sdk in Node: the TypeScript library of Jellyfin's own newer clients.
//
// Outside a browser it keeps no cookie at all; its socket bears nothing but `?ApiKey=`, not even a DeviceId. Node 20
// must be started with --experimental-websocket.

import { readFileSync } from 'node:fs';

import { Jellyfin } from '@jellyfin/sdk';
import { OutboundWebSocketMessageType } from '@jellyfin/sdk/lib/websocket/index.js';
import { getAuthenticationApi } from '@jellyfin/sdk/lib/utils/api/authentication-api.js';
import { getLibraryApi } from '@jellyfin/sdk/lib/utils/api/library-api.js';
import { getMediaInfoApi } from '@jellyfin/sdk/lib/utils/api/media-info-api.js';
import { getSessionApi } from '@jellyfin/sdk/lib/utils/api/session-api.js';
import { getSystemApi } from '@jellyfin/sdk/lib/utils/api/system-api.js';
import { getUserApi } from '@jellyfin/sdk/lib/utils/api/user-api.js';

import { HLS_ONLY, expect, firstFilm, playing, run, until } from './story.mjs';

const VERSION = JSON.parse(readFileSync(new URL('node_modules/@jellyfin/sdk/package.json', import.meta.url))).version;

async function tell(story) {
    const api = new Jellyfin({
        clientInfo: { name: 'Story SDK', version: VERSION },
        deviceInfo: { name: 'Desk', id: story.device }
    }).createApi(story.url);

    await story.step('public info', () => getSystemApi(api).getPublicSystemInfo());
    await story.step('log-in', async () => {
        const credentials = { Username: story.user, Pw: story.password };
        const { data } = await getAuthenticationApi(api).authenticateUserByName({ authenticateUserByName: credentials });
        api.update({ accessToken: expect(data.AccessToken, 'no AccessToken') });
    });
    const film = await lookAround(story, api);
    const socket = await openSocket(story, api);
    const { source, playSession } = await play(story, api, socket, film);
    if (story.holds) {
        await hold(story, api, socket, film, source, playSession);
        await story.step('remote control after the hold', () => tellSession(story, api, socket));
    }
    await story.step('playback stops', () =>
        getSessionApi(api).reportPlaybackStopped({ playbackStopInfo: playing(film, source, playSession, 3) }));
    socket.end();
    if (!story.stays) {
        await story.step('log-out', () => getSessionApi(api).reportSessionEnded());
    }
}

async function lookAround(story, api) {
    await story.step('user', async () => {
        const { data } = await getUserApi(api).getCurrentUser();
        expect(data.Name === story.user, `the user is ${data.Name}`);
    });
    await story.step('system info', () => getSystemApi(api).getSystemInfo());
    return story.step('items', async () => {
        const query = { recursive: true, includeItemTypes: ['Movie'], limit: 5 };
        return firstFilm((await getLibraryApi(api).getItems(query)).data.Items);
    });
}

async function openSocket(story, api) {
    const socket = new Socket(api);
    await story.step('socket', () => until('ForceKeepAlive', () => socket.count('ForceKeepAlive')));
    await story.step('remote control', async () => {
        const capabilities = { PlayableMediaTypes: ['Video'], SupportedCommands: ['DisplayMessage'], SupportsMediaControl: true };
        await getSessionApi(api).postFullCapabilities({ clientCapabilitiesDto: capabilities });
        await tellSession(story, api, socket);
    });
    return socket;
}

// A message to the own session comes back by the socket only where both are on one pod.
async function tellSession(story, api, socket) {
    const { data } = await getSessionApi(api).getSessions();
    const own = expect(data.find(one => one.DeviceId === story.device), 'the own session is not listed');
    const before = socket.count('GeneralCommand');
    await getSessionApi(api).sendMessageCommand({ sessionId: own.Id, messageCommand: { Text: 'hello', TimeoutMs: 1000 } });
    await until('the GeneralCommand', () => socket.count('GeneralCommand') > before);
}

async function play(story, api, socket, film) {
    const { source, playSession } = await story.step('PlaybackInfo', async () => {
        const { data } = await getMediaInfoApi(api).getPostedPlaybackInfo({
            itemId: film.Id,
            playbackInfoDto: { DeviceProfile: HLS_ONLY }
        });
        expect(data.MediaSources[0].TranscodingUrl, 'no TranscodingUrl for a profile that takes HLS only');
        return { source: data.MediaSources[0], playSession: data.PlaySessionId };
    });
    await story.step('playback', async () => {
        await getSessionApi(api).reportPlaybackStart({ playbackStartInfo: playing(film, source, playSession, 0) });
        for (const second of [1, 2, 3]) {
            await progress(api, playing(film, source, playSession, second));
        }
        await until('a Sessions message', () => socket.count('Sessions'));
    });
    return { source, playSession };
}

async function hold(story, api, socket, film, source, playSession) {
    const closed = socket.closed;
    const held = story.beginHold();
    for await (const number of held.rounds()) {
        if (number % 5 === 4) {
            const report = playing(film, source, playSession, number / 5);
            await held.call('POST /Sessions/Playing/Progress', () => progress(api, report));
        } else {
            await held.call('GET /Users/Me', () => getUserApi(api).getCurrentUser());
        }
    }
    // The library itself never erases a token; a 401 is what makes an application on it do so.
    held.facts = {
        token_lost: held.failures.some(failure => failure.why.includes('401')),
        socket_closed: socket.closed - closed
    };
}

function progress(api, playbackProgressInfo) {
    return getSessionApi(api).reportPlaybackProgress({ playbackProgressInfo });
}

// The library's subscription, with a count of what came by it.
class Socket {
    constructor(api) {
        this.counts = new Map();
        this.closed = 0;
        // The library handles ForceKeepAlive itself and tells no subscriber, so the messages are counted beneath it.
        const Plain = globalThis.WebSocket;
        const count = message => this.counts.set(message, this.count(message) + 1);
        globalThis.WebSocket = class extends Plain {
            constructor(address) {
                super(address);
                this.addEventListener('message', event => count(JSON.parse(event.data).MessageType));
            }
        };
        this.end = api.subscribe([OutboundWebSocketMessageType.Sessions], () => {});
        api.webSocket.onStatusChange(status => {
            this.closed += status === 'disconnected' ? 1 : 0;
        });
    }

    count(message) {
        return this.counts.get(message) ?? 0;
    }
}

await run('jellyfin-sdk', VERSION, tell);
