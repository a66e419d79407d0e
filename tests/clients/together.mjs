// Several clients of @jellyfin/sdk in one process, told what to do by lines of JSON and answering each with one: for the
// stories in which clients have to do with each other. A line is {"do": ..., "as": name, ...}; a command that fails
// answers {"error": ...}.

import { createInterface } from 'node:readline';
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { Jellyfin } from '@jellyfin/sdk';
import { OutboundWebSocketMessageType } from '@jellyfin/sdk/lib/websocket/index.js';
import { getAuthenticationApi } from '@jellyfin/sdk/lib/utils/api/authentication-api.js';
import { getSessionApi } from '@jellyfin/sdk/lib/utils/api/session-api.js';
import { getSystemApi } from '@jellyfin/sdk/lib/utils/api/system-api.js';
import { getSyncPlayApi } from '@jellyfin/sdk/lib/utils/api/sync-play-api.js';
import { getUserApi } from '@jellyfin/sdk/lib/utils/api/user-api.js';

const url = process.argv[2];
const clients = new Map();
console.log = console.error;

class Client {
    constructor(name) {
        this.api = new Jellyfin({
            clientInfo: { name: 'Story SDK', version: '1' },
            deviceInfo: { name: 'Desk', id: name }
        }).createApi(url);
        this.heard = {};
        this.waiting = new Set();
    }

    // What comes by the socket is counted by its kind: commands of SyncPlay, updates of a group, and remote control.
    listen() {
        const types = ['SyncPlayCommand', 'SyncPlayGroupUpdate', 'GeneralCommand', 'Play', 'Playstate']
            .map(name => OutboundWebSocketMessageType[name]);
        this.end = this.api.subscribe(types, message => {
            const data = message.Data ?? {};
            const kind = data.Command ?? data.Type ?? data.Name ?? data.PlayCommand;
            this.heard[kind] = (this.heard[kind] ?? 0) + 1;
            this.waiting.forEach(look => look());
        });
    }

    // Ends when it has heard this so often.
    hears(kind, times) {
        return new Promise((resolve, reject) => {
            const late = setTimeout(() => end(() => reject(new Error(`never heard ${kind}: ${JSON.stringify(this.heard)}`))), 20_000);
            const look = () => (this.heard[kind] ?? 0) >= times && end(resolve);
            const end = how => {
                clearTimeout(late);
                this.waiting.delete(look);
                how();
            };
            this.waiting.add(look);
            look();
        });
    }

    // Looks at this and that until it is told to stop.
    async look() {
        const failed = [];
        let asked = 0;
        while (!this.stops) {
            const looks = [() => getUserApi(this.api).getCurrentUser(), () => getSystemApi(this.api).getSystemInfo()];
            try {
                await looks[asked++ % looks.length]();
            } catch (error) {
                failed.push(`${error?.response?.status ?? ''} ${error?.message ?? error}`);
            }
            await sleep(20);
        }
        return { asked, failed };
    }
}

const deeds = {
    async log_in({ user, password }, client) {
        const credentials = { Username: user, Pw: password };
        const { data } = await getAuthenticationApi(client.api).authenticateUserByName({ authenticateUserByName: credentials });
        client.api.update({ accessToken: data.AccessToken });
        return {};
    },
    async listen(_, client) {
        client.listen();
        return {};
    },
    async me(_, client) {
        const { data } = await getUserApi(client.api).getCurrentUser();
        return { name: data.Name };
    },
    async authorize({ code }, client) {
        const { data } = await getAuthenticationApi(client.api).authorizeQuickConnect({ code });
        return { authorized: data };
    },
    async new_group(_, client) {
        const { data } = await getSyncPlayApi(client.api).syncPlayCreateGroup({ newGroupRequestDto: { GroupName: 'evening' } });
        return { group: data.GroupId };
    },
    async join({ group }, client) {
        await getSyncPlayApi(client.api).syncPlayJoinGroup({ joinGroupRequestDto: { GroupId: group } });
        return {};
    },
    async queue({ item }, client) {
        const queue = { PlayingQueue: [item], PlayingItemPosition: 0, StartPositionTicks: 0 };
        await getSyncPlayApi(client.api).syncPlaySetNewQueue({ playRequestDto: queue });
        return {};
    },
    async unpause(_, client) {
        await getSyncPlayApi(client.api).syncPlayUnpause();
        return {};
    },
    async pause(_, client) {
        await getSyncPlayApi(client.api).syncPlayPause();
        return {};
    },
    async seek({ ticks }, client) {
        await getSyncPlayApi(client.api).syncPlaySeek({ seekRequestDto: { PositionTicks: ticks } });
        return {};
    },
    async hears({ kind, times }, client) {
        await client.hears(kind, times);
        return {};
    },
    async heard(_, client) {
        return { heard: client.heard };
    },
    async capable(_, client) {
        const clientCapabilitiesDto = {
            PlayableMediaTypes: ['Video'],
            SupportedCommands: ['DisplayMessage'],
            SupportsMediaControl: true
        };
        await getSessionApi(client.api).postFullCapabilities({ clientCapabilitiesDto });
        return {};
    },
    async sees({ device }, client) {
        const { data } = await getSessionApi(client.api).getSessions();
        const ids = data.filter(row => row.DeviceId === device).map(row => row.Id);
        return { ids };
    },
    async remote_play({ session, item }, client) {
        await getSessionApi(client.api).play({ sessionId: session, playCommand: 'PlayNow', itemIds: [item] });
        return {};
    },
    async remote_pause({ session }, client) {
        await getSessionApi(client.api).sendPlaystateCommand({ sessionId: session, command: 'Pause' });
        return {};
    },
    async message({ session, text }, client) {
        await getSessionApi(client.api).sendMessageCommand({ sessionId: session, messageCommand: { Text: text } });
        return {};
    },
    async look(_, client) {
        client.looking = client.look();
        return {};
    },
    async stop(_, client) {
        client.stops = true;
        return client.looking;
    }
};

for await (const line of createInterface({ input: process.stdin })) {
    const told = JSON.parse(line);
    if (!clients.has(told.as)) {
        clients.set(told.as, new Client(told.as));
    }
    let answer;
    try {
        answer = await deeds[told.do](told, clients.get(told.as));
    } catch (error) {
        answer = { error: `${told.do}: ${error?.response?.status ?? ''} ${error?.message ?? error}` };
    }
    writeSync(1, `${JSON.stringify(answer)}\n`);
}
process.exit(0);
