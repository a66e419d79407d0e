// The page's side of chromium.mjs: a small web client built of the parts that jellyfin-web is built of.
//
// jellyfin-apiclient makes the calls. The socket is jellyfin-apiclient's own against a 10.11 server and @jellyfin/sdk's
// against a 12.0 one, as in the jellyfin-web of those releases: the older library still names its token `api_key`, which
// 12.0 refuses. hls.js plays the film, and, as in jellyfin-web, the first answer of 400 or more ends it.

import { Jellyfin } from '@jellyfin/sdk/lib/jellyfin.js';
import { OutboundWebSocketMessageType } from '@jellyfin/sdk/lib/websocket/index.js';
import Hls from 'hls.js';

const library = window['jellyfin-apiclient'].default ?? window['jellyfin-apiclient'];
// A film that shows the same position for longer than this, while it should play, has stalled.
const STALL_MS = 500;
// The film of a test is so short that a player would have all of it at once and ask for nothing more. So it reads a few
// seconds ahead and keeps nothing behind.
const SHORT_MEMORY = { maxBufferLength: 6, maxMaxBufferLength: 6, backBufferLength: 0 };

const heard = {};
let client;
let film;

window.story = { begin, logIn, resume, call, showImage, openSocket, playFilm, state };
window.storyReady = true;

function begin(device) {
    client = new library.ApiClient(location.origin, 'Story Web', '1.0', 'Chromium', device);
    // As in jellyfin-web: one try, and no search for other addresses of the server.
    client.enableAutomaticNetworking = false;
    count('socketClosed', 0);
}

async function logIn(user, password) {
    const result = await call('authenticateUserByName', user, password);
    localStorage.setItem('story', JSON.stringify({ token: result.AccessToken, user: result.User.Id }));
    client.setAuthenticationInfo(result.AccessToken, result.User.Id);
}

// What a page does when it is loaded again: everything it knows is what it has kept.
function resume() {
    const { token, user } = JSON.parse(localStorage.getItem('story'));
    client.setAuthenticationInfo(token, user);
}

// One method of the library by its name. Answers without a body, which it hands out raw, become nothing; refusals, which it
// throws raw, become errors.
async function call(method, ...words) {
    try {
        const answer = await client[method](...words);
        return answer instanceof Response ? null : answer;
    } catch (refusal) {
        throw refusal instanceof Response ? new Error(`the answer was ${refusal.status}`) : refusal;
    }
}

function showImage(item) {
    const image = new Image();
    const shown = new Promise((resolve, reject) => {
        image.onload = () => resolve(image.naturalWidth);
        image.onerror = () => reject(new Error('the image did not load'));
    });
    image.src = client.getScaledImageUrl(item, { type: 'Primary', maxWidth: 200 });
    document.body.append(image);
    return shown;
}

function openSocket(serverVersion) {
    if (serverVersion.startsWith('10.')) {
        library.Events.on(client, 'message', (_event, message) => count(message.MessageType));
        library.Events.on(client, 'websocketclose', () => count('socketClosed'));
        client.openWebSocket();
        library.Events.on(client, 'websocketopen', () => client.sendMessage('SessionsStart', '0,1000'));
        return;
    }
    const Plain = window.WebSocket;
    window.WebSocket = class extends Plain {
        constructor(address) {
            super(address);
            this.addEventListener('message', event => count(JSON.parse(event.data).MessageType));
            this.addEventListener('close', () => count('socketClosed'));
        }
    };
    const api = new Jellyfin({
        clientInfo: { name: client.appName(), version: client.appVersion() },
        deviceInfo: { name: client.deviceName(), id: client.deviceId() }
    }).createApi(location.origin, client.accessToken());
    api.subscribe([OutboundWebSocketMessageType.Sessions], () => {});
}

function playFilm(address) {
    const video = document.createElement('video');
    video.muted = true;
    video.crossOrigin = 'anonymous';
    video.loop = true;
    document.body.append(video);
    film = { video, ended: null, stalls: [], longest: 0, played: 0, position: 0, moved: null };

    const player = new Hls(SHORT_MEMORY);
    player.on(Hls.Events.MANIFEST_PARSED, () => video.play());
    player.on(Hls.Events.ERROR, (_event, error) => {
        if (error.fatal || (error.response?.code ?? 0) >= 400) {
            film.ended ??= `${error.details} ${error.response?.code ?? ''}`.trim();
            player.destroy();
        }
    });
    player.loadSource(address);
    player.attachMedia(video);
    setInterval(() => watch(film), 100);
}

function watch(film) {
    const now = performance.now();
    const position = film.video.currentTime;
    if (position === film.position) {
        return;
    }
    const step = position - film.position;
    film.played += step > 0 && step < 5 ? step : 0;
    if (film.moved !== null) {
        note(film, Math.round(now - film.moved));
    }
    film.position = position;
    film.moved = now;
}

function note(film, still) {
    film.longest = Math.max(film.longest, still);
    if (still > STALL_MS) {
        film.stalls.push(still);
    }
}

function state() {
    const still = film?.moved ? Math.round(performance.now() - film.moved) : 0;
    return {
        heard,
        film: film && {
            ended: film.ended,
            played: film.played,
            position: film.position,
            longest: Math.max(film.longest, still),
            stalls: still > STALL_MS ? [...film.stalls, still] : [...film.stalls]
        }
    };
}

function count(event, by = 1) {
    heard[event] = (heard[event] ?? 0) + by;
}
