package baileys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"wabot/internal/transfer"
)

// The collection that mongo-baileys proposes, and the databases to look into where the address names none: those of
// the bots that use it, and MongoDB's default.
const DefaultCollection = "authState"

var databases = []string{"whatsappAIBot", "whatsapp", "test"}

// errURL says that the address cannot be read. The driver's own text may quote the password.
var errURL = transfer.Refusal("that is not the address of a MongoDB: write mongodb://user:password@host:27017/database, and special characters in the password as %XX")

// movedSuffix follows the ID of the document that holds the creds while they are moved.
const movedSuffix = ".moved-to-wabot"

// collection is a session in MongoDB. The layouts that are read:
//
//	_id "auth_creds", {creds: {…}}; _id "session-1.0", {…}     mongo-baileys, bytes as BSON's binary
//	_id "auth_creds", {value: {creds: {…}}}                     baileys-auth-mongo
//	_id "creds", {…} or {value: …} or {data: …}                 handmade; values may be JSON in a string
//	_id "NAME" + any separator + one of these                   several sessions in a collection
//	{key: "creds", value: …, sessionId: "NAME"}                 the same, in fields
type collection struct {
	*mongo.Collection
	session string // its name where there are several, or empty
}

// Options say where a session in MongoDB is.
type Options struct {
	URL        string
	Database   string // empty for the one that the URL names, or the usual ones
	Collection string // empty for DefaultCollection
	Session    string // which one, where there are several; empty for the only one
}

// Mongo is the session in a collection of MongoDB. Close it after use.
func Mongo(ctx context.Context, o Options) (*Source, error) {
	text, err := connstring.ParseAndValidate(o.URL)
	if err != nil {
		return nil, errURL
	}
	const patience = 15 * time.Second
	client, err := mongo.Connect(options.Client().ApplyURI(o.URL).SetServerSelectionTimeout(patience).SetTimeout(patience))
	if err != nil {
		return nil, errURL
	}
	if o.Collection == "" {
		o.Collection = DefaultCollection
	}
	look := databases
	switch {
	case o.Database != "":
		look = []string{o.Database}
	case text.Database != "":
		look = []string{text.Database}
	}
	source := &Source{close: client.Disconnect}
	for _, database := range look {
		c := client.Database(database).Collection(o.Collection)
		err := c.FindOne(ctx, bson.D{}).Err()
		if err == nil {
			source.place = &collection{c, o.Session}
			return source, nil
		}
		if !errors.Is(err, mongo.ErrNoDocuments) {
			return nil, errors.Join(fmt.Errorf("read the collection %s of the database %s: %w", o.Collection, database, err), source.Close())
		}
	}
	return nil, errors.Join(transfer.Refusal(fmt.Sprintf("there is no collection %s with a session in it (looked into the database %s); name them with --database and --collection",
		o.Collection, strings.Join(look, ", "))), source.Close())
}

func (c *collection) name() string {
	return fmt.Sprintf("the collection %s of the database %s", c.Name(), c.Database().Name())
}

// document is one entry as it is stored.
type document struct {
	id      any
	name    string // with whatever stands before it
	session string // the session's name, where a field has it
	value   any
	raw     bson.D
}

// separators stand between the name of a session and that of an entry.
const separators = ":-_./| "

// cutCreds takes what stands before the name of the entry with the device.
func cutCreds(name string) (prefix string, ok bool) {
	for _, n := range []string{"auth_creds", "creds.json", credsName} { // the longer names first
		if prefix, ok := strings.CutSuffix(name, n); ok && (prefix == "" || strings.ContainsAny(prefix[len(prefix)-1:], separators)) {
			return prefix, true
		}
	}
	return "", false
}

// firstText is the first of the fields that is a text.
func (o object) firstText(names ...string) (text, name string) {
	for _, name := range names {
		if text, ok := o.get(name).(string); ok {
			return text, name
		}
	}
	return "", ""
}

func understand(raw bson.D) document {
	o := fromBSON(raw).(object)
	doc := document{raw: raw}
	for _, e := range raw {
		if e.Key == "_id" {
			doc.id = e.Value
		}
	}
	var naming, owning string
	doc.name, naming = o.firstText("_id", "key", "name", "id")
	doc.session, owning = o.firstText("sessionId", "sessionID", "session_id", "session")
	switch {
	case o.has("value"):
		doc.value = o.get("value")
	case o.has("data") && o.get("type") != "Buffer":
		doc.value = o.get("data")
	default:
		doc.value = slices.DeleteFunc(slices.Clone(o), func(f field) bool {
			return f.name == "_id" || f.name == "__v" || f.name == naming || f.name == owning
		})
	}
	if text, ok := doc.value.(string); ok && strings.ContainsAny(text[:min(1, len(text))], `{["`) {
		if v, err := parse([]byte(text)); err == nil {
			doc.value = v
		}
	}
	return doc
}

// moved is what stands in the place of the creds: they are in it as they were.
type moved struct {
	ID       any    `bson:"_id"`
	Note     string `bson:"note"`
	Mark     []byte `bson:"mark"`
	Document bson.D `bson:"document"`
}

// credsDocument is the document with the device, or what stands in its place.
type credsDocument struct {
	document
	prefix string // before the name of each entry
	moved  *moved // nil where the creds are in their place
}

// is tells whether this is the session that was asked for.
func (c credsDocument) is(session string) bool {
	return session == "" || c.session == session || strings.Trim(c.prefix, separators) == session
}

func (c *collection) read(ctx context.Context) (entries, error) {
	in, _, err := c.find(ctx)
	return in, err
}

// find gives the session's entries, and the document with the device.
func (c *collection) find(ctx context.Context) (entries, credsDocument, error) {
	var docs []document
	var creds []credsDocument
	cursor, err := c.Find(ctx, bson.D{})
	if err != nil {
		return nil, credsDocument{}, fmt.Errorf("read the session: %w", err)
	}
	defer cursor.Close(ctx)
	for cursor.Next(ctx) {
		var raw bson.D
		var m moved
		if err := cursor.Decode(&raw); err != nil {
			return nil, credsDocument{}, fmt.Errorf("read the session: %w", err)
		}
		device := credsDocument{document: understand(raw)}
		if strings.HasSuffix(device.name, movedSuffix) {
			if err := cursor.Decode(&m); err != nil {
				return nil, credsDocument{}, fmt.Errorf("read what was moved: %w", err)
			}
			device = credsDocument{document: understand(m.Document), moved: &m}
		}
		var isCreds bool
		if device.prefix, isCreds = cutCreds(device.name); !isCreds {
			docs = append(docs, device.document)
		} else if device.is(c.session) {
			creds = append(creds, device)
		}
	}
	if err := cursor.Err(); err != nil {
		return nil, credsDocument{}, fmt.Errorf("read the session: %w", err)
	}
	// What stands in for creds that are there counts for nothing.
	creds = slices.DeleteFunc(creds, func(m credsDocument) bool {
		return m.moved != nil && slices.ContainsFunc(creds, func(d credsDocument) bool {
			return d.moved == nil && d.name == m.name && d.session == m.session
		})
	})
	switch {
	case len(creds) == 0:
		return nil, credsDocument{}, transfer.Refusal(fmt.Sprintf("%s holds no Baileys session: no document has the creds", c.name()))
	case len(creds) > 1:
		return nil, credsDocument{}, transfer.Refusal(fmt.Sprintf("%s holds %d sessions; say which with --session NAME, where NAME stands before \"creds\" in the _id, or in the field sessionId",
			c.name(), len(creds)))
	}
	device := creds[0]
	value := device.value
	if inner := asObject(value).get("creds"); inner != nil {
		value = inner
	}
	if text, ok := value.(string); ok {
		value, _ = parse([]byte(text))
	}
	in := entries{credsName: value}
	for _, doc := range docs {
		if name, ok := strings.CutPrefix(doc.name, device.prefix); ok && doc.session == device.session {
			in[strings.TrimSuffix(name, ".json")] = doc.value
		}
	}
	return in, device, nil
}

func (c *collection) mark(ctx context.Context) ([]byte, error) {
	_, device, err := c.find(ctx)
	if err != nil || device.moved == nil {
		return nil, err
	}
	return device.moved.Mark, nil
}

func (c *collection) move(ctx context.Context, mark []byte) error {
	_, device, err := c.find(ctx)
	if err != nil {
		return err
	}
	m := moved{
		ID: device.session + device.name + movedSuffix, Mark: mark, Document: device.raw,
		Note: "This session goes on in wabot and must not be used here as well. `wabot session import-baileys --undo` brings it back while that is safe.",
	}
	if _, err := c.ReplaceOne(ctx, byID(m.ID), m, options.Replace().SetUpsert(true)); err != nil {
		return err
	}
	_, err = c.DeleteOne(ctx, byID(device.id))
	return err
}

func (c *collection) restore(ctx context.Context) error {
	_, device, err := c.find(ctx)
	if err != nil || device.moved == nil {
		return err
	}
	if _, err := c.InsertOne(ctx, device.raw); err != nil {
		return err
	}
	_, err = c.DeleteOne(ctx, byID(device.moved.ID))
	return err
}

func byID(id any) bson.D { return bson.D{{Key: "_id", Value: id}} }
