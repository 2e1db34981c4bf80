// A bot as people run it on Baileys: it answers what begins with "!ai" by repeating it. Its settings come
// from the environment, what it has to tell goes to standard output, a JSON object a line, and the end
// of standard input stops it.
import http from 'node:http';
import https from 'node:https';
import tls from 'node:tls';
import { Console } from 'node:console';
import { createRequire } from 'node:module';

const { BAILEYS, AUTH, FOLDER, MONGO_URL, COLLECTION, PROXY, ROOT_KEY } = process.env;
const say = (event) => process.stdout.write(JSON.stringify(event) + '\n');
globalThis.console = new Console(process.stderr); // Baileys' Signal library chats on standard output

const baileys = await import(BAILEYS);
const defaults = await import(`${BAILEYS}/lib/Defaults/index.js`);
defaults.WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(ROOT_KEY, 'hex');

// Everything for WhatsApp's hosts goes through the simulated server's proxy.
class Tunnel extends https.Agent {
  createConnection(options, connected) {
    const proxy = new URL(PROXY);
    http.request({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: `${options.host}:443` })
      .on('connect', (answer, socket) => connected(null, tls.connect({ socket, servername: options.host })))
      .on('error', connected)
      .end();
  }
}

// stores keep a session as the packages and bots out there do.
const stores = {
  folder: () => baileys.useMultiFileAuthState(FOLDER),

  // The package itself.
  'mongo-baileys': (c) => mongoBaileys(c),

  // Its fork baileys-auth-mongo, which is in no registry: each value in a field of its document.
  'baileys-auth-mongo': (c) => mongo(c, 'auth_creds', (creds) => ({ creds }), (doc) => doc.creds, {
    write: (id, data) => c.updateOne({ _id: id }, { $set: { value: data } }, { upsert: true }),
    read: (doc) => fromBinary(doc.value),
  }),

  // What most bots have copied from each other: JSON's form of byte strings, a session's name before the keys.
  'json': (c) => mongo(c, 'creds', (creds) => creds, (doc) => doc, {
    prefix: 'main:',
    write: (id, data) => c.updateOne({ _id: id }, { $set: { value: JSON.stringify(data, baileys.BufferJSON.replacer) } }, { upsert: true }),
    read: (doc) => JSON.parse(doc.value, baileys.BufferJSON.reviver),
  }),
};

const mongoBaileys = (c) => createRequire(import.meta.url)('mongo-baileys').useMongoDBAuthState(c);

const fromBinary = (value) => {
  if (value?._bsontype === 'Binary') return value.buffer;
  if (Array.isArray(value)) return value.map(fromBinary);
  if (value?.constructor === Object) return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, fromBinary(v)]));
  return value;
};

async function mongo(collection, credsID, wrap, unwrap, { prefix = '', write, read }) {
  const load = async (id) => {
    const doc = await collection.findOne({ _id: prefix + id });
    return doc && read(doc);
  };
  const kept = await load(credsID);
  const creds = kept ? unwrap(kept) : baileys.initAuthCreds();
  return {
    state: {
      creds,
      keys: {
        get: async (type, ids) => Object.fromEntries(await Promise.all(ids.map(async (id) => {
          const value = await load(`${type}-${id}`);
          return [id, type === 'app-state-sync-key' && value ? baileys.proto.Message.AppStateSyncKeyData.fromObject(value) : value];
        }))),
        set: async (data) => {
          for (const [type, values] of Object.entries(data)) {
            for (const [id, value] of Object.entries(values)) {
              const key = `${prefix}${type}-${id}`;
              await (value ? write(key, value) : collection.deleteOne({ _id: key }));
            }
          }
        },
      },
    },
    saveCreds: () => write(prefix + credsID, wrap(creds)),
  };
}

let client;
if (MONGO_URL) {
  const { MongoClient } = await import('mongodb');
  client = await MongoClient.connect(MONGO_URL);
}
const { state, saveCreds } = await stores[AUTH](client?.db().collection(COLLECTION));

let sock;
let writing = Promise.resolve();
let stopping = false;

const silent = { level: 'silent', child: () => silent, trace() {}, debug() {}, info() {}, warn(...a) { console.error(...a); }, error(...a) { console.error(...a); } };

// Baileys 6 loses what comes while it still derives the last of the four keys of its handshake, which a server that is
// this near is quick enough for. So it gets its messages when it is ready.
let derived = () => {};
const { subtle } = globalThis.crypto;
const deriveBits = subtle.deriveBits.bind(subtle);
subtle.deriveBits = async (...of) => {
  const bits = await deriveBits(...of);
  derived();
  return bits;
};

function patiently(socket) {
  let keys = 0;
  const ready = new Promise((resolve) => { derived = () => { if (++keys === 4) resolve(); }; });
  const emit = socket.emit.bind(socket);
  let greeted = false;
  socket.emit = (event, ...of) => {
    if (event !== 'message' || !greeted) {
      greeted ||= event === 'message';
      return emit(event, ...of);
    }
    ready.then(() => setImmediate(() => emit(event, ...of)));
    return true;
  };
}

function connect() {
  sock = baileys.makeWASocket({
    auth: { creds: state.creds, keys: baileys.makeCacheableSignalKeyStore(state.keys, silent) },
    logger: silent,
    agent: new Tunnel(),
    fetchAgent: new Tunnel(),
    connectTimeoutMs: 60000,
  });
  if (BAILEYS.startsWith('@')) patiently(sock.ws);
  sock.ev.on('creds.update', () => { writing = writing.then(saveCreds); });
  sock.ev.on('connection.update', ({ connection, qr, lastDisconnect }) => {
    if (qr) say({ event: 'qr', qr });
    if (connection === 'open') say({ event: 'open', me: state.creds.me });
    if (connection === 'close' && !stopping) {
      const status = lastDisconnect?.error?.output?.statusCode;
      if (status === baileys.DisconnectReason.restartRequired) connect();
      else say({ event: 'closed', status, why: String(lastDisconnect?.error) });
    }
  });
  sock.ev.on('messages.upsert', ({ messages }) => {
    for (const m of messages) {
      const text = m.message?.conversation ?? m.message?.extendedTextMessage?.text;
      if (!m.key.fromMe && text?.startsWith('!ai ')) answer(m.key.remoteJid, text);
    }
  });
}

// Baileys 6 uses a counter twice when it sends two messages at once.
let answers = Promise.resolve();
function answer(to, text) {
  answers = answers.then(async () => {
    try {
      await sock.sendMessage(to, { text: `Node heard: ${text.slice(4)}` });
      say({ event: 'answered', text });
    } catch (e) {
      say({ event: 'failed', text, why: String(e) });
    }
  });
}
connect();

process.stdin.resume();
process.stdin.on('end', async () => {
  stopping = true;
  await answers;
  await sock.end();
  await writing;
  await client?.close();
  process.exit(0);
});
