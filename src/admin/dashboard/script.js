// The dashboard. It shows what the stream of server-sent events says, and asks before it acts.
//
// Names of devices and titles are a stranger's text: they are only ever set as text.
'use strict';

const byId = id => document.getElementById(id);

/** An element with its class and text. */
function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Sets a text only if it differs, so that nothing is read out or painted again for nothing. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// ----- Words ---------------------------------------------------------------------------------

/** How far this browser's clock is behind the server's. */
let clockOffset = 0;

const now = () => Date.now() + clockOffset;

function clock(ms) {
  const at = new Date(ms);
  const isToday = at.toDateString() === new Date(now()).toDateString();
  const time = at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  return isToday ? time : `${at.toLocaleDateString()} ${time}`;
}

function ago(ms) {
  const seconds = Math.max(0, Math.round((now() - ms) / 1000));
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

function duration(seconds) {
  const two = number => String(Math.floor(number)).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const rest = `${two((seconds % 3600) / 60)}:${two(seconds % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest;
}

const WHY = {
  first: 'signed in there', restart: 'its pod restarted', home_gone: 'its pod was gone', drain: 'its pod was drained',
  group: 'a SyncPlay group is there', user: 'its user lives there', operator: 'an operator moved it',
  kept: 'known from before'
};

// ----- The parts of the page -----------------------------------------------------------------

let overview = null;
let clients = { rows: [], hidden: 0 };
const several = () => new Set(overview.pods.map(pod => pod.pool)).size > 1;
const podName = (pool, pod) => several() ? `${pool}/${pod}` : pod;

function showVerdict({ level, sentences }) {
  setAttribute(byId('verdict'), 'data-level', level);
  const place = byId('sentences');
  const texts = sentences.map(({ text, since_ms, more }) =>
    text + (since_ms ? ` since ${clock(since_ms)}` : '') + (more ? `; ${more}` : '') + '.');
  while (place.children.length > texts.length) place.lastChild.remove();
  texts.forEach((text, index) => setText(place.children[index] ?? place.appendChild(make('p')), text));
  document.title = level === 'well' ? 'jellypin' : `⚠ ${texts[0]} – jellypin`;
}

function facts(list, pairs) {
  const wanted = pairs.filter(pair => pair[1] !== null && pair[1] !== undefined);
  while (list.children.length > wanted.length * 2) list.lastChild.remove();
  wanted.forEach(([name, value], index) => {
    setText(list.children[index * 2] ?? list.appendChild(make('dt')), name);
    setText(list.children[index * 2 + 1] ?? list.appendChild(make('dd')), String(value));
  });
}

const cards = new Map();

function podCard(key) {
  const item = make('li');
  const title = item.appendChild(make('h3'));
  const name = title.appendChild(make('span'));
  const state = title.appendChild(make('span', 'tag'));
  const leader = title.appendChild(make('span', 'tag leader', 'leads'));
  const list = item.appendChild(make('dl'));
  const buttons = item.appendChild(make('div', 'buttons'));
  const drain = buttons.appendChild(make('button', '', 'Drain …'));
  const undrain = buttons.appendChild(make('button', '', 'Take drain back'));
  const card = { item, name, state, leader, list, drain, undrain, pod: null };
  drain.type = undrain.type = 'button';
  drain.addEventListener('click', () => askDrain(card.pod));
  undrain.addEventListener('click', () => askUndrain(card.pod));
  cards.set(key, card);
  return card;
}

function showPods(pods) {
  const seen = new Set();
  pods.forEach((pod, index) => {
    const key = `${pod.pool}/${pod.name}`;
    seen.add(key);
    const card = cards.get(key) ?? podCard(key);
    card.pod = pod;
    setText(card.name, podName(pod.pool, pod.name));
    const unwell = pod.condition === 'well' ? '' : `, ${pod.condition.replace('_', ' ')}`;
    setText(card.state, (pod.is_removed ? 'leaves' : pod.state) + unwell);
    setAttribute(card.state, 'data-state', pod.state);
    setAttribute(card.state, 'data-condition', pod.condition);
    card.leader.hidden = !pod.leads;
    facts(card.list, [
      ['Since', `${clock(pod.since_ms)} (${ago(pod.since_ms)})`],
      ['Sessions', overview.has_key && pod.kind !== 'http' ? pod.sessions : null], ['Requests now', pod.requests], ['Sockets', pod.sockets],
      ['Life', pod.epoch], ['Version', pod.version], ['Server', pod.server_name], ['Address', pod.address]
    ]);
    card.drain.hidden = pod.state !== 'ready' || pod.kind === 'http';
    card.undrain.hidden = pod.state !== 'draining' || pod.is_removed || pod.kind === 'http';
    setAttribute(card.drain, 'aria-label', `Drain pod ${pod.name}`);
    setAttribute(card.undrain, 'aria-label', `Take drain back from pod ${pod.name}`);
    const place = byId('pods').children[index];
    if (place !== card.item) byId('pods').insertBefore(card.item, place ?? null);
  });
  for (const [key, card] of cards) {
    if (!seen.has(key)) {
      card.item.remove();
      cards.delete(key);
    }
  }
}

function showSystem({ version, held, sessions, has_key, redis, replicas, certificates }) {
  const own = replicas.find(replica => replica.is_this_one);
  const others = replicas.filter(replica => !replica.is_this_one);
  facts(byId('system'), [
    ['Version', version], ['Requests that wait', held], ['Sessions known', has_key ? sessions : 'none, there is no API key'],
    ['Redis', redis === null ? 'none' : redis ? 'answers' : 'does not answer'],
    ['Clock', redis && own?.clock_ahead_ms ? `${own.clock_ahead_ms} ms ahead of Redis` : null],
    ['Certificates', certificates.length ? certificates.map(({ names, days, from }) =>
      `${names[0] ?? 'no name'}: ${days < 0 ? 'ended' : days === 1 ? '1 day' : `${days} days`}, from ${from}`).join('; ') : null],
    ['Other replicas', others.length ? others.map(({ name, disagrees }) =>
      name + (disagrees.length ? ` (differs: ${disagrees.join(', ')})` : '')).join(', ') : 'none']
  ]);
}

// ----- Who is where --------------------------------------------------------------------------

const rows = new Map();

function clientRow(key) {
  const row = make('tr');
  const user = row.appendChild(make('th'));
  user.scope = 'row';
  const cell = name => {
    const made = row.appendChild(make('td'));
    made.dataset.name = name;
    return made;
  };
  const device = cell('Device');
  const deviceName = device.appendChild(make('span'));
  const program = device.appendChild(make('small'));
  const plays = cell('Plays');
  const title = plays.appendChild(make('span'));
  const progress = plays.appendChild(make('progress'));
  const position = plays.appendChild(make('small'));
  const [pod, since, why] = [cell('Pod'), cell('Since'), cell('Why')];
  const acts = row.appendChild(make('td'));
  const move = acts.appendChild(make('button', 'small', 'Move …'));
  move.type = 'button';
  const made = { row, user, deviceName, program, title, progress, position, pod, since, why, move, client: null };
  move.addEventListener('click', () => askMove(made.client));
  rows.set(key, made);
  return made;
}

const nameOf = client => client.user ?? client.user_id;

function showClient(made, client) {
  made.client = client;
  setText(made.user, nameOf(client));
  setText(made.deviceName, client.device || client.device_id);
  setText(made.program, client.client);
  const playing = client.playing;
  setText(made.title, playing ? playing.title : client.is_playing ? 'plays' : '–');
  made.progress.hidden = !playing || playing.length_s === 0;
  made.position.hidden = !playing;
  if (playing) {
    const ofWhole = playing.length_s ? ` of ${duration(playing.length_s)}` : '';
    const how = [playing.is_paused ? 'paused' : '', playing.method].filter(Boolean).join(', ');
    setText(made.position, duration(playing.position_s) + ofWhole + (how ? `, ${how}` : ''));
    if (made.progress.max !== (playing.length_s || 1)) made.progress.max = playing.length_s || 1;
    if (made.progress.value !== playing.position_s) made.progress.value = playing.position_s;
    setAttribute(made.progress, 'aria-label', `Position in ${playing.title}`);
  }
  setText(made.pod, podName(client.pool, client.pod) + (client.in_group ? ' (in a group)' : ''));
  setText(made.since, `${clock(client.since_ms)}`);
  setText(made.why, (WHY[client.why] ?? client.why) + (client.from ? `, from ${client.from}` : ''));
  made.move.hidden = !overview.can_move || client.in_group;
  setAttribute(made.move, 'aria-label', `Move ${nameOf(client)} on ${client.device || client.device_id}`);
}

function showClients() {
  if (!overview) return;
  const words = byId('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  const body = document.querySelector('#clients tbody');
  const seen = new Set();
  let shown = 0;
  let place = body.firstChild;
  for (const client of clients.rows) {
    const key = JSON.stringify([client.pool, client.user_id, client.device_id]);
    seen.add(key);
    const made = rows.get(key) ?? clientRow(key);
    showClient(made, client);
    const text = [nameOf(client), client.device, client.client, client.pod, client.playing?.title ?? '', client.device_id]
      .join('\n').toLowerCase();
    const fits = words.every(word => text.includes(word));
    if (made.row.hidden === fits) made.row.hidden = !fits;
    shown += fits;
    if (made.row === place) place = place.nextSibling;
    else body.insertBefore(made.row, place);
  }
  for (const [key, made] of rows) {
    if (!seen.has(key)) {
      made.row.remove();
      rows.delete(key);
    }
  }
  const all = clients.rows.length + clients.hidden;
  setText(byId('count'), words.length ? `${shown} of ${all}` : `${all} ${all === 1 ? 'session' : 'sessions'}` +
    (clients.hidden ? `, ${clients.hidden} of them not listed` : ''));
  byId('clients').parentElement.hidden = clients.rows.length === 0;
  byId('no-clients').hidden = clients.rows.length > 0;
  setText(byId('no-clients'), overview.has_key ? 'No client is there.' :
    'Without [jellyfin] api_key jellypin does not know whose sessions live where.');
}

// ----- The last hour -------------------------------------------------------------------------

const SVG = 'http://www.w3.org/2000/svg';
const number = (value, digits) => value === null ? '–' : value.toLocaleString([], { maximumFractionDigits: digits });
const CURVES = [
  ['Requests each second', ['requests'], sample => number(sample.requests, 1)],
  ['Answers 5xx each second', ['errors'], sample => number(sample.errors, 2)],
  ['First byte, median and 99 %', ['p50_ms', 'p99_ms'],
    sample => sample.p50_ms === null ? '–' : `${number(sample.p50_ms, 0)} / ${number(sample.p99_ms, 0)} ms`],
  ['Open sockets', ['sockets'], sample => number(sample.sockets, 0)],
  ['Requests that changed pods', ['moves'], sample => number(sample.moves, 0)]
];
const curves = CURVES.map(([title, fields, words]) => {
  const figure = make('figure');
  const caption = figure.appendChild(make('figcaption'));
  caption.appendChild(make('span', '', title));
  const value = caption.appendChild(make('strong', '', '–'));
  const svg = figure.appendChild(document.createElementNS(SVG, 'svg'));
  svg.setAttribute('viewBox', '0 0 359 40');
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  const paths = fields.map((_, index) => {
    const path = svg.appendChild(document.createElementNS(SVG, 'path'));
    if (index) path.setAttribute('class', 'second');
    return path;
  });
  return { figure, title, fields, words, value, svg, paths };
});

function showHistory(samples) {
  for (const { figure, title, fields, words, value, svg, paths } of curves) {
    if (!figure.isConnected) byId('history').appendChild(figure);
    const last = samples.at(-1);
    setText(value, last ? words(last) : '–');
    const highest = Math.max(...samples.flatMap(sample => fields.map(field => sample[field] ?? 0)), 0);
    setAttribute(svg, 'aria-label', last ? `${title}: now ${words(last)}, at most ${number(highest, 1)} in the last hour` :
      `${title}: nothing yet`);
    fields.forEach((field, index) => {
      let line = '';
      samples.forEach((sample, nth) => {
        if (sample[field] === null) return;
        const x = 360 - samples.length + nth;
        const y = 39 - (highest ? sample[field] / highest : 0) * 37;
        line += `${line && samples[nth - 1][field] !== null ? 'L' : 'M'}${x} ${y.toFixed(1)}`;
      });
      setAttribute(paths[index], 'd', line || 'M0 0');
    });
  }
}

// ----- Events --------------------------------------------------------------------------------

const MOST_EVENTS = 500;

function showEvents(events) {
  const list = byId('events');
  for (const { at_ms, level, message, fields } of events) {
    const item = make('li');
    const time = item.appendChild(make('time', '', new Date(at_ms).toLocaleString([], { dateStyle: 'short', timeStyle: 'medium' })));
    time.dateTime = new Date(at_ms).toISOString();
    item.appendChild(make('span', '', level)).dataset.level = level;
    const words = item.appendChild(make('div', 'words'));
    words.appendChild(make('span', '', message));
    if (fields.length) {
      words.appendChild(make('div', 'fields', fields.map(([name, value]) => `${name}=${value}`).join('  ')));
    }
    list.prepend(item);
  }
  while (list.children.length > MOST_EVENTS) list.lastChild.remove();
  byId('no-events').hidden = list.children.length > 0;
  list.parentElement.hidden = list.children.length === 0;
}

// ----- Acts ----------------------------------------------------------------------------------

/** Asks for a confirmation. Gives the chosen value, or null. */
function ask(title, text, yes, choices) {
  setText(byId('ask-title'), title);
  setText(byId('ask-text'), text);
  setText(byId('ask-yes'), yes);
  const place = byId('ask-choices');
  [...place.querySelectorAll('label')].forEach(label => label.remove());
  place.hidden = choices.length < 2;
  choices.forEach(([value, words], index) => {
    const label = place.appendChild(make('label'));
    const input = label.appendChild(make('input'));
    Object.assign(input, { type: 'radio', name: 'choice', value, checked: index === 0 });
    label.append(words);
  });
  const dialog = byId('ask');
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise(resolve => dialog.addEventListener('close', () => {
    resolve(dialog.returnValue === 'yes' ? place.querySelector('input:checked')?.value ?? '' : null);
  }, { once: true }));
}

let saidTimer = 0;

function say(text) {
  byId('said').textContent = text;
  clearTimeout(saidTimer);
  saidTimer = setTimeout(() => { byId('said').textContent = ''; }, 8000);
}

async function act(path) {
  try {
    const answer = await fetch(path, { method: 'POST' });
    if (answer.status === 401) return void location.assign('/sign-in');
    const text = (await answer.text()).trim();
    say(answer.ok ? text : `Refused: ${text}`);
  } catch {
    say('jellypin did not answer. Look whether it runs.');
  }
}

const path = (...parts) => parts.map(part => `/${encodeURIComponent(part)}`).join('');

async function askDrain(pod) {
  const name = podName(pod.pool, pod.name);
  const count = overview.has_key ? `Its ${pod.sessions} sessions move to other pods.` : 'New clients go to other pods.';
  const when = await ask(`Drain pod ${name}?`, `It gets no new clients. ${count}`, 'Drain', [
    ['idle', 'Each client when it plays nothing'], ['now', 'All at once, even while they play']
  ]);
  if (when !== null) await act(`${path('pods', pod.pool, pod.name, 'drain')}?when=${when}`);
}

async function askUndrain(pod) {
  const name = podName(pod.pool, pod.name);
  const yes = await ask(`Take the drain of pod ${name} back?`, 'It gets new clients again.', 'Take it back', []);
  if (yes !== null) await act(path('pods', pod.pool, pod.name, 'undrain'));
}

async function askRoll() {
  const pools = [...new Set(overview.pods.filter(pod => pod.kind !== 'http').map(pod => pod.pool))];
  const pool = await ask('Restart all pods?',
    'One after the other is drained, restarted and warmed. Clients stay signed in, and their films go on.',
    'Restart', pools.map(name => [name, `Pool ${name}`]));
  if (pool !== null) await act(`/roll?pool=${encodeURIComponent(pool || pools[0])}`);
}

byId('roll').addEventListener('click', askRoll);

async function askMove(client) {
  const pods = overview.pods.filter(pod => pod.pool === client.pool && pod.state === 'ready' && pod.name !== client.pod);
  if (!pods.length) return say('No other pod is ready.');
  const playing = client.is_playing || client.playing ? ' It plays now, and may pause for a moment.' : '';
  const to = await ask(`Move ${nameOf(client)} to another pod?`,
    `${client.device || client.device_id} moves at once; the user's other devices follow while they are idle.${playing}` +
    (pods.length === 1 ? ` It goes to pod ${pods[0].name}.` : ''),
    'Move', pods.map(pod => [pod.name, `Pod ${pod.name} (${pod.sessions} sessions)`]));
  if (to === null) return;
  await act(`${path('sessions', client.pool, client.user_id, client.device_id, 'move')}?to=${encodeURIComponent(to)}`);
}

// ----- The stream ----------------------------------------------------------------------------

const connection = byId('connection');

function connect() {
  const stream = new EventSource('/overview/stream');
  const on = (name, take) => stream.addEventListener(name, event => take(JSON.parse(event.data)));
  on('hello', hello => {
    clockOffset = hello.now_ms - Date.now();
    byId('sign-out').hidden = !hello.is_signed_in;
    setText(byId('operator'), hello.operator === 'token' ? 'by token' : hello.operator);
    byId('events').replaceChildren();
    connection.dataset.state = 'live';
    setText(connection, 'Live');
  });
  on('overview', news => {
    overview = news;
    showVerdict(news.verdict);
    showPods(news.pods);
    byId('roll').hidden = !news.has_key || news.pods.length < 2;
    showSystem(news);
    showClients();
  });
  on('clients', news => {
    clients = news;
    showClients();
  });
  on('history', showHistory);
  on('events', showEvents);
  stream.addEventListener('error', () => {
    connection.dataset.state = 'lost';
    setText(connection, 'No connection to jellypin. What you see is old.');
    if (stream.readyState === EventSource.CLOSED) {
      // The stream was refused: the sign-in has ended, or too many pages are open.
      setTimeout(async () => {
        const answer = await fetch('/replicas').catch(() => null);
        if (answer?.status === 401) location.assign('/sign-in');
        else connect();
      }, 3000);
    }
  });
}

byId('search').addEventListener('input', showClients);
// Words like "3 min" grow old by themselves.
setInterval(() => { if (overview) showPods(overview.pods); }, 30000);
connect();
