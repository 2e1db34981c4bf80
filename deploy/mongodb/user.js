// Runs once, when MongoDB makes its data directory: makes the bot's user, who may read and
// write the bot's database and do nothing else.
const name = process.env.MONGO_INITDB_DATABASE;
if (!process.env.MONGO_PASSWORD) {
  throw new Error('MONGO_PASSWORD is not set: the bot\'s user would have no password');
}
db.getSiblingDB(name).createUser({
  user: 'wabot',
  pwd: process.env.MONGO_PASSWORD,
  roles: [{ role: 'readWrite', db: name }],
});
