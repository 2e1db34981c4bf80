// Healthy is a database that the bot's user can log in to: MongoDB answers pings already
// while it makes its data directory, before it listens to anybody else.
//
// MongoDB keeps the passwords that its users were made with. Root's is replaced here by that of .env as
// long as it is the one of the example, the bot's whenever root's is right.
const admin = db.getSiblingDB('admin');
const password = process.env.MONGO_INITDB_ROOT_PASSWORD;

// mongosh throws where a login fails. It catches what it has waited for, and does not wait for what is returned at once.
function login(where, user, pwd) {
  try {
    const done = where.auth(user, pwd);
    return done;
  } catch (e) {
    return false;
  }
}

// Root's first: cut short between the two, the next check does the rest.
if (!login(admin, 'root', password) && login(admin, 'root', 'change-this-root-password')) {
  admin.changeUserPassword('root', password);
}
if (!login(db, 'wabot', process.env.MONGO_PASSWORD) && login(admin, 'root', password)) {
  db.changeUserPassword('wabot', process.env.MONGO_PASSWORD);
}
if (!login(db, 'wabot', process.env.MONGO_PASSWORD) || db.adminCommand('ping').ok !== 1) {
  quit(1);
}
