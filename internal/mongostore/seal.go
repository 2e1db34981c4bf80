package mongostore

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// With a key, the secrets of a device are sealed before they go to the database: AES-256-GCM, with the document's _id and the
// field's name as associated data, so that nothing sealed can be moved to another place. What identifies a document
// stays readable: the device, kinds, addresses and counts. Whoever reads the collection then knows whom the account talks to, and cannot be the
// account. An old sealed value put back in its own place is not noticed by this.
//
// Sealing is done where documents become BSON and back: a registry of the client knows the types with secrets. A sealed field is
// binary data of the user-defined subtype: the key's name (4 bytes), the nonce (12), the sealed bytes.
//
// The document "sealing" in "meta" lists the keys by which documents may be sealed, "" for those that are not. Nobody opens a database of which
// a key is missing. Reseal, which whoever leads calls first, brings all documents to the newest key, one by one: in between both
// keys are listed, so it can be cut short anywhere.

// schemaSealed is the schema number of a database with sealed documents: a program that knows nothing of them refuses it.
const schemaSealed = 2

// KeySize is the size of a key, in bytes.
const KeySize = 32

// ErrKey says that the database is sealed with a key that was not given.
var ErrKey = errors.New("the device state in the database is encrypted with a key that is not given: set SESSION_KEY to it, or SESSION_KEY_OLD while it is being changed")

// errSealed is a sealed field that does not open.
var errSealed = errors.New("a stored key does not open: it was changed, or moved, or encrypted with another key")

// sealedType is the subtype of sealed binary data.
const sealedType = bson.TypeBinaryUserDefined

// secretFields are the fields that are sealed, of whichever type.
var secretFields = []string{"data", "private", "plaintext", "noise_key", "identity_key", "signed_pre_key", "adv_key", "secret", "token"}

// secretTypes are the types of documents with such fields.
var secretTypes = []reflect.Type{
	reflect.TypeFor[value](), reflect.TypeFor[preKey](), reflect.TypeFor[bufferedEvent](), reflect.TypeFor[syncKey](), reflect.TypeFor[deviceRow](),
	reflect.TypeFor[secret](), reflect.TypeFor[sent](), reflect.TypeFor[token](),
}

// sealKey is one key.
type sealKey struct {
	name string // 4 bytes, by which what it sealed is known
	aead cipher.AEAD
}

func newSealKey(key []byte) (*sealKey, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("a key for the database has %d bytes, not %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the key for the database: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("use the key for the database: %w", err)
	}
	sum := sha256.Sum256(append([]byte("wabot session key "), key...))
	return &sealKey{string(sum[:4]), aead}, nil
}

// listed is a key's name in the list of "sealing".
func (k *sealKey) listed() string {
	if k == nil {
		return ""
	}
	return hex.EncodeToString([]byte(k.name))
}

// sealer seals with its first key, or with none, and opens with any.
type sealer struct {
	first *sealKey
	keys  []*sealKey
}

func newSealer(key []byte, old [][]byte) (s *sealer, err error) {
	s = &sealer{}
	if len(key) > 0 {
		if s.first, err = newSealKey(key); err != nil {
			return nil, err
		}
		s.keys = append(s.keys, s.first)
	}
	for _, o := range old {
		k, err := newSealKey(o)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

func boundTo(id, field string) []byte { return []byte(id + "\x00" + field) }

// seal gives what is stored in a field of the document with the _id. Nothing stays nothing.
func (s *sealer) seal(id, field string, data []byte) any {
	if data == nil || s.first == nil {
		return data
	}
	nonce := make([]byte, s.first.aead.NonceSize())
	rand.Read(nonce)
	out := append([]byte(s.first.name), nonce...)
	return bson.Binary{Subtype: sealedType, Data: s.first.aead.Seal(out, nonce, data, boundTo(id, field))}
}

func (s *sealer) open(id, field string, b bson.Binary) ([]byte, error) {
	if b.Subtype != sealedType {
		return b.Data, nil
	}
	for _, k := range s.keys {
		rest, ok := bytes.CutPrefix(b.Data, []byte(k.name))
		if n := k.aead.NonceSize(); ok && len(rest) >= n {
			if data, err := k.aead.Open([]byte{}, rest[:n], rest[n:], boundTo(id, field)); err == nil {
				return data, nil
			}
		}
	}
	// Not a message that its sender could mend by sending it again.
	return nil, &outageError{errSealed}
}

// each replaces the secret fields of a document by what f makes of them. Those that are null stay so.
func eachSecret(raw bson.Raw, f func(id, field string, b bson.Binary) (any, error)) (bson.D, error) {
	var d bson.D
	if err := bson.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	id, _ := raw.Lookup("_id").StringValueOK()
	for i, e := range d {
		b, ok := e.Value.(bson.Binary)
		if !ok || !slices.Contains(secretFields, e.Key) {
			continue
		}
		v, err := f(id, e.Key, b)
		if err != nil {
			return nil, err
		}
		d[i].Value = v
	}
	return d, nil
}

// registry makes BSON of documents, sealed, and documents of BSON.
func (s *sealer) registry() *bson.Registry {
	r := bson.NewRegistry()
	for _, t := range secretTypes {
		r.RegisterTypeEncoder(t, bson.ValueEncoderFunc(func(ec bson.EncodeContext, w bson.ValueWriter, v reflect.Value) error {
			raw, err := bson.Marshal(v.Interface()) // which knows nothing of this registry
			if err != nil {
				return err
			}
			d, err := eachSecret(raw, func(id, field string, b bson.Binary) (any, error) { return s.seal(id, field, b.Data), nil })
			if err != nil {
				return err
			}
			return encode(ec, w, d)
		}))
		r.RegisterTypeDecoder(t, bson.ValueDecoderFunc(func(dc bson.DecodeContext, rd bson.ValueReader, v reflect.Value) error {
			var raw bson.Raw
			decoder, err := dc.LookupDecoder(reflect.TypeFor[bson.Raw]())
			if err != nil {
				return err
			}
			if err := decoder.DecodeValue(dc, rd, reflect.ValueOf(&raw).Elem()); err != nil {
				return err
			}
			return s.unmarshal(raw, v.Addr().Interface())
		}))
	}
	return r
}

func encode(ec bson.EncodeContext, w bson.ValueWriter, d bson.D) error {
	encoder, err := ec.LookupEncoder(reflect.TypeFor[bson.D]())
	if err != nil {
		return err
	}
	return encoder.EncodeValue(ec, w, reflect.ValueOf(d))
}

// unmarshal is bson.Unmarshal of a document as it is stored.
func (s *sealer) unmarshal(raw bson.Raw, v any) error {
	d, err := eachSecret(raw, func(id, field string, b bson.Binary) (any, error) { return s.open(id, field, b) })
	if err != nil {
		return err
	}
	plain, err := bson.Marshal(d)
	if err != nil {
		return err
	}
	return bson.Unmarshal(plain, v)
}

// sealing is the list of keys in use.
type sealing struct {
	ID   string   `bson:"_id"`
	Keys []string `bson:"keys"`
}

const sealingID = "sealing"

func (s *Store) sealing(ctx context.Context) (sealing, error) {
	var l sealing
	err := s.try(ctx, "read which keys are in use", func(ctx context.Context) error {
		return found(s.meta.FindOne(ctx, byID(sealingID)).Decode(&l))
	})
	if l.ID == "" {
		l = sealing{sealingID, []string{""}}
	}
	return l, err
}

// checkKeys refuses a database with documents that the keys given do not open.
func (s *Store) checkKeys(ctx context.Context) error {
	l, err := s.sealing(ctx)
	if err != nil {
		return err
	}
	for _, name := range l.Keys {
		if name != "" && !slices.ContainsFunc(s.seal.keys, func(k *sealKey) bool { return k.listed() == name }) {
			return fmt.Errorf("%w (its name is %s)", ErrKey, name)
		}
	}
	return nil
}

func (s *Store) setSealing(ctx context.Context, keys []string, number int64) error {
	err := s.write(ctx, "note which keys are in use", func(ctx context.Context) error {
		return upsert(s.meta.ReplaceOne(ctx, byID(sealingID), sealing{sealingID, keys}, options.Replace().SetUpsert(true)))
	})
	if err != nil {
		return err
	}
	return s.write(ctx, "write the schema number", func(ctx context.Context) error {
		_, err := s.meta.UpdateOne(ctx, byID("schema"), set(bson.D{field("number", number)}))
		return err
	})
}

// Reseal brings what is stored to the key that Open was given, or to none, and returns how many documents it wrote. Only who drives the device may call
// it, before the device is used. It returns ErrKey where another has brought it to a key that this process has not.
func (s *Store) Reseal(ctx context.Context) (n int, err error) {
	if err := s.checkKeys(ctx); err != nil {
		return 0, err
	}
	l, err := s.sealing(ctx)
	if err != nil {
		return 0, err
	}
	now := s.seal.first.listed()
	if slices.Equal(l.Keys, []string{now}) {
		return 0, nil
	}
	defer s.forget()
	if !slices.Contains(l.Keys, now) {
		l.Keys = append(l.Keys, now)
	}
	if err := s.setSealing(ctx, l.Keys, schemaSealed); err != nil {
		return 0, err
	}
	for _, c := range []*mongo.Collection{s.sessions, s.secrets, s.outgoing, s.tokens} {
		did, err := s.reseal(ctx, c)
		if n += did; err != nil {
			return n, err
		}
	}
	number := int64(schemaSealed)
	if now == "" {
		number = schema
	}
	return n, s.setSealing(ctx, []string{now}, number)
}

// page is how many documents reseal reads and writes at once: few enough that the lease is renewed in between.
const page = 50

// reseal brings a collection to the first key, a page at a time.
func (s *Store) reseal(ctx context.Context, c *mongo.Collection) (n int, err error) {
	for last := ""; ; {
		rows, err := find[bson.Raw](ctx, s, "read "+c.Name(), c, bson.D{field("_id", bson.D{field("$gt", last)})},
			options.Find().SetSort(bson.D{field("_id", 1)}).SetLimit(page))
		if err != nil || len(rows) == 0 {
			return n, err
		}
		var models []mongo.WriteModel
		for _, raw := range rows {
			last = raw.Lookup("_id").StringValue()
			changed, err := s.resealed(raw)
			if err != nil {
				return n, fmt.Errorf("encrypt %s: %w", c.Name(), err)
			}
			if len(changed) > 0 {
				models = append(models, mongo.NewUpdateOneModel().SetFilter(byID(last)).SetUpdate(set(changed)))
			}
		}
		if len(models) == 0 {
			continue
		}
		err = s.write(ctx, "encrypt "+c.Name(), func(ctx context.Context) error {
			_, err := c.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
			return err
		})
		if err != nil {
			return n, err
		}
		n += len(models)
	}
}

// resealed are the fields of a document that are to be replaced.
func (s *Store) resealed(raw bson.Raw) (changed bson.D, err error) {
	_, err = eachSecret(raw, func(id, name string, b bson.Binary) (any, error) {
		if s.seal.current(b) {
			return b, nil
		}
		data, err := s.seal.open(id, name, b)
		if err == nil {
			changed = append(changed, field(name, s.seal.seal(id, name, data)))
		}
		return b, err
	})
	return changed, err
}

// current reports whether a field is sealed with the first key, or not at all where there is none.
func (s *sealer) current(b bson.Binary) bool {
	if s.first == nil {
		return b.Subtype != sealedType
	}
	return b.Subtype == sealedType && bytes.HasPrefix(b.Data, []byte(s.first.name))
}
