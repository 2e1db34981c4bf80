// Healthy is a database that the bot's user can log in to: MongoDB answers pings already
// while it makes its data directory, before it listens to anybody else.
db.auth('wabot', process.env.MONGO_PASSWORD);
if (db.adminCommand('ping').ok !== 1) {
  quit(1);
}
