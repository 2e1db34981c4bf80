// Makes signal.json, by the libraries that Baileys uses: one side of conversations as it is stored, and what the other side sent.
// Run it where cmd/wabot/testdata/baileys is installed:  node make.mjs <folder with node_modules> > signal.json
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const modules = path.resolve(process.argv[2], 'node_modules');
const require = createRequire(path.join(modules, 'x.js'));
const libsignal = require('libsignal');
const groups = await import(pathToFileURL(path.join(modules, 'baileys/lib/Signal/Group/index.js')));
const { curve, keyhelper } = libsignal;
console.info = console.warn = () => {};

class Person {
  constructor(name) {
    this.address = new libsignal.ProtocolAddress(name, 0);
    this.identity = keyhelper.generateIdentityKeyPair();
    this.registration = keyhelper.generateRegistrationId();
    this.signed = keyhelper.generateSignedPreKey(this.identity, 1);
    this.once = {};
    this.records = {};
    this.senderKeys = {};
  }
  // What libsignal-node asks of its store.
  getOurIdentity() { return this.identity; }
  getOurRegistrationId() { return this.registration; }
  isTrustedIdentity() { return true; }
  loadSession(id) { return this.records[id] && libsignal.SessionRecord.deserialize(this.records[id]); }
  storeSession(id, record) { this.records[id] = JSON.parse(JSON.stringify(record.serialize())); }
  loadPreKey(id) { return this.once[id]; }
  removePreKey(id) { delete this.once[id]; }
  loadSignedPreKey() { return this.signed.keyPair; }
  loadSenderKey(name) { const r = this.senderKeys[name]; return r ? groups.SenderKeyRecord.deserialize(r) : new groups.SenderKeyRecord(); }
  storeSenderKey(name, key) { this.senderKeys[name] = Buffer.from(JSON.stringify(key.serialize())); }

  async greet(other, id) {
    const key = keyhelper.generatePreKey(id);
    other.once[id] = key.keyPair;
    await new libsignal.SessionBuilder(this, other.address).initOutgoing({
      registrationId: other.registration, identityKey: other.identity.pubKey,
      signedPreKey: { keyId: 1, publicKey: other.signed.keyPair.pubKey, signature: other.signed.signature },
      preKey: { keyId: id, publicKey: key.keyPair.pubKey },
    });
  }
  async send(other, text) {
    const { type, body } = await new libsignal.SessionCipher(this, other.address).encrypt(Buffer.from(text));
    return { type: type === 3 ? 'pkmsg' : 'msg', body: Buffer.from(body, 'binary').toString('base64'), text };
  }
  async receive(other, { type, body, text }) {
    const cipher = new libsignal.SessionCipher(this, other.address);
    const data = Buffer.from(body, 'base64');
    const plain = await (type === 'pkmsg' ? cipher.decryptPreKeyWhisperMessage(data) : cipher.decryptWhisperMessage(data));
    if (plain.toString() !== text) throw new Error('decrypted otherwise');
  }
  // dump is the person's side with another.
  dump(other) {
    return { identity: this.identity.pubKey.toString('base64'), registration: this.registration, record: this.records[other.address.toString()] };
  }
}

// A long conversation: several chains of which messages are late, and an older session below the present one.
const [bot, friend] = [new Person('bot'), new Person('friend')];
const late = [];
await friend.greet(bot, 7);
for (let round = 0; round < 3; round++) {
  for (let i = 0; i < 4; i++) {
    const m = await friend.send(bot, `round ${round} message ${i}`);
    if (i % 2 === 0) await bot.receive(friend, m); else late.push(m);
  }
  await friend.receive(bot, await bot.send(friend, `answer ${round}`));
}
await friend.greet(bot, 8); // as after a retry receipt
for (let round = 3; round < 5; round++) {
  for (let i = 0; i < 3; i++) {
    const m = await friend.send(bot, `round ${round} message ${i}`);
    if (i !== 1) await bot.receive(friend, m); else late.push(m);
  }
  await friend.receive(bot, await bot.send(friend, `answer ${round}`));
}
const conversation = { bot: bot.dump(friend), friend: friend.dump(bot), late, next: await friend.send(bot, 'next') };

// The bot has written first and was not answered: its messages still carry its pre-key.
const [caller, called] = [new Person('caller'), new Person('called')];
await caller.greet(called, 9);
await called.receive(caller, await caller.send(called, 'hello?'));
const unanswered = { bot: caller.dump(called), friend: called.dump(caller), once: 9, next: await called.send(caller, 'hello!') };

// A group: a member's key with late messages, after an older key; and the bot's own.
const group = '120363000000000001@g.us';
const name = (p) => new groups.SenderKeyName(group, p.address);
const share = async (from, to) => new groups.GroupSessionBuilder(to).process(name(from),
  new groups.SenderKeyDistributionMessage(null, null, null, null, (await new groups.GroupSessionBuilder(from).create(name(from))).serialize()));
const shout = async (p, text) => ({ body: Buffer.from(await new groups.GroupCipher(p, name(p)).encrypt(Buffer.from(text))).toString('base64'), text });
const lateInGroup = [];
for (let key = 0; key < 2; key++) {
  delete friend.senderKeys[name(friend)];
  await share(friend, bot);
  for (let i = 0; i < 5; i++) {
    const m = await shout(friend, `key ${key} message ${i}`);
    if (i % 2 === 0) await new groups.GroupCipher(bot, name(friend)).decrypt(Buffer.from(m.body, 'base64')); else lateInGroup.push(m);
  }
}
await share(bot, friend);
for (let i = 0; i < 3; i++) await new groups.GroupCipher(friend, name(bot)).decrypt(Buffer.from((await shout(bot, `own ${i}`)).body, 'base64'));
const senderKey = (holder, of) => holder.senderKeys[name(of)].toString('base64');
const inGroup = { member: senderKey(bot, friend), own: senderKey(bot, bot), ownAtFriend: senderKey(friend, bot), late: lateInGroup, next: await shout(friend, 'next') };

process.stdout.write(JSON.stringify({ conversation, unanswered, group: inGroup }, null, ' ') + '\n');
