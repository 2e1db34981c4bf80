package mongostore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"wabot/internal/mongotest"
	"wabot/internal/storetest"
)

// pretend is a server that speaks as much of MongoDB's protocol as to greet and to refuse. answer gives the
// answer to each command: nil for the greeting's, hangUp for none and the end of the connection.
func pretend(t *testing.T, wire [2]int32, answer func(command string) bson.D) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	hello := bson.D{
		{Key: "ok", Value: 1}, {Key: "isWritablePrimary", Value: true}, {Key: "ismaster", Value: true}, {Key: "helloOk", Value: true},
		{Key: "minWireVersion", Value: wire[0]}, {Key: "maxWireVersion", Value: wire[1]},
		{Key: "maxBsonObjectSize", Value: 16 << 20}, {Key: "maxMessageSizeBytes", Value: 48 << 20}, {Key: "maxWriteBatchSize", Value: 100000},
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for serveOne(c, hello, answer) == nil {
				}
			}()
		}
	}()
	return l.Addr().String()
}

var hangUp = bson.D{}

// serveOne reads a message and answers it.
func serveOne(c net.Conn, hello bson.D, answer func(command string) bson.D) error {
	const opReply, opQuery, opMsg = 1, 2004, 2013
	header := make([]byte, 16)
	if _, err := io.ReadFull(c, header); err != nil {
		return err
	}
	body := make([]byte, binary.LittleEndian.Uint32(header)-16)
	if _, err := io.ReadFull(c, body); err != nil {
		return err
	}
	reply := binary.LittleEndian.AppendUint32(nil, 0) // the length, below
	reply = append(reply, 1, 0, 0, 0)
	reply = append(reply, header[4:8]...)
	var out bson.D
	if binary.LittleEndian.Uint32(header[12:]) == opQuery {
		out = hello
		reply = binary.LittleEndian.AppendUint32(reply, opReply)
		reply = append(reply, make([]byte, 16)...)
		reply = binary.LittleEndian.AppendUint32(reply, 1)
	} else {
		first, err := bson.Raw(body[5:]).IndexErr(0)
		if err != nil {
			return err
		}
		switch out = answer(first.Key()); {
		case out == nil:
			out = hello
		case len(out) == 0:
			return io.EOF
		}
		reply = binary.LittleEndian.AppendUint32(reply, opMsg)
		reply = append(reply, 0, 0, 0, 0, 0)
	}
	raw, err := bson.Marshal(out)
	if err != nil {
		return err
	}
	reply = append(reply, raw...)
	binary.LittleEndian.PutUint32(reply, uint32(len(reply)))
	_, err = c.Write(reply)
	return err
}

// What a server refuses is said in the operator's words, at once, and without the password.
func TestOpenSaysWhatTheServerRefuses(t *testing.T) {
	t.Parallel()
	refusal := func(code int32, name, text string) bson.D {
		return bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: code}, {Key: "codeName", Value: name}, {Key: "errmsg", Value: text}}
	}
	greeting := func(command string) bool { return command == "hello" || strings.EqualFold(command, "isMaster") }
	for _, row := range []struct {
		name   string
		wire   [2]int32
		answer func(string) bson.D
		want   error
		says   string
	}{
		{
			name: "wrong password", wire: [2]int32{0, 21}, want: ErrLogin, says: "refuses the user name or password",
			answer: func(command string) bson.D {
				if greeting(command) {
					return nil
				}
				return refusal(18, "AuthenticationFailed", "Authentication failed for bot s3cret.")
			},
		}, {
			name: "missing right", wire: [2]int32{0, 21}, want: ErrRights, says: "give it the role readWrite",
			answer: func(command string) bson.D {
				switch {
				case greeting(command):
					return nil
				case command == "saslStart", command == "saslContinue", command == "ping", command == "endSessions":
					return bson.D{{Key: "ok", Value: 1}}
				}
				return refusal(13, "Unauthorized", "not authorized on x to execute command { find: s3cret }")
			},
		},
		{name: "too old", wire: [2]int32{0, 5}, want: ErrServer, says: "use MongoDB 5.0 or newer", answer: func(string) bson.D { return nil }},
		{name: "too new", wire: [2]int32{99, 101}, want: ErrServer, says: "is not supported", answer: func(string) bson.D { return nil }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			user := "bot:s3cret@"
			if row.want == ErrRights {
				user = "" // a login that succeeds needs a server that knows the password
			}
			begun := time.Now()
			_, err := Open(t.Context(), Options{URL: "mongodb://" + user + pretend(t, row.wire, row.answer) + "/x", Wait: time.Minute})
			if !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("open: %v, want %v", err, row.want)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %v to say so: waiting does not mend it", took)
			}
		})
	}
}

// A server that goes away, or is not up yet, while this program logs in has not refused the password.
func TestOpenWaitsForALoginThatWasCutOff(t *testing.T) {
	t.Parallel()
	address := pretend(t, [2]int32{0, 21}, func(command string) bson.D {
		if command == "saslStart" {
			return hangUp
		}
		return nil
	})
	begun, wait := time.Now(), time.Second
	_, err := Open(t.Context(), Options{URL: "mongodb://bot:s3cret@" + address + "/x", Wait: wait, Timeout: 500 * time.Millisecond})
	if !errors.Is(err, ErrOutage) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("open: %v, want an outage", err)
	}
	if took := time.Since(begun); took < wait {
		t.Errorf("it was waited for %v, want %v", took, wait)
	}
}

// A database that goes away between the first answer and the last step is waited for as one that
// was never there, and no longer.
func TestOpenIsBoundedAsAWhole(t *testing.T) {
	t.Parallel()
	line := mongotest.NewLine(t)
	var log bytes.Buffer
	o := Options{URL: line.URL, Wait: 3 * time.Second, Timeout: time.Second, Patience: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))}
	line.OnCommand(func(command string) mongotest.Fault {
		if command == "createIndexes" {
			return mongotest.CutBefore
		}
		return mongotest.None
	})
	begun := time.Now()
	_, err := Open(t.Context(), o)
	if took := time.Since(begun); !errors.Is(err, ErrOutage) || took < o.Wait || took > 2*o.Wait {
		t.Errorf("open: %v after %v, want an outage after %v", err, took, o.Wait)
	}
	line.OnCommand(nil)
	line.Break()
	o.Wait = time.Minute
	time.AfterFunc(time.Second, line.Mend)
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("a database that comes back: %v", err)
	}
	s.Close(t.Context())
	if !strings.Contains(log.String(), "waiting for the database") {
		t.Errorf("no word of waiting:\n%s", &log)
	}
}

// An index that cannot be made ends the start. What hinders it is not quoted: it is a phone number.
func TestOpenWithoutIndex(t *testing.T) {
	t.Parallel()
	address := mongotest.New(t)
	s := open(t, address)
	if err := s.lidMap.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, lid := range []string{"1@lid", "2@lid"} {
		if _, err := s.lidMap.InsertOne(t.Context(), lidRow{LID: lid, PN: "4915112345"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Open(t.Context(), Options{URL: address, Timeout: 20 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "make the index of lids by pn") || strings.Contains(err.Error(), "4915112345") {
		t.Errorf("open: %v", err)
	}
}

// An index that an older version has left is dropped, once, and the others stay.
func TestOpenDropsOldIndexes(t *testing.T) {
	t.Parallel()
	url := mongotest.New(t)
	s := open(t, url)
	names := func() (all []string) {
		t.Helper()
		specs, err := s.inboxRows.Indexes().ListSpecifications(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range specs {
			all = append(all, spec.Name)
		}
		slices.Sort(all)
		return all
	}
	want := names()
	_, err := s.inboxRows.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "open", Value: int32(1)}, {Key: "kind", Value: int32(1)}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(); !slices.Contains(got, "open_1_kind_1") {
		t.Fatalf("the old index is not among %v", got)
	}
	open(t, url)
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("the indexes are %v, want %v", got, want)
	}
}

// What WhatsApp's servers have forgotten is forgotten here, and not a day before.
func TestCleanUps(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	s := open(t, mongotest.New(t))
	d := storetest.Pair(t, s.Devices(), "100")
	ctx, now := t.Context(), time.Now()
	ages := map[byte]time.Duration{1: 15 * day, 2: 13 * day, 3: 8 * day, 4: 6 * day, 5: 91 * day}
	for n, age := range ages {
		s.now = func() time.Time { return now.Add(-age) }
		for _, err := range []error{
			d.EventBuffer.PutBufferedEvent(ctx, [32]byte{n}, []byte("text"), now),
			d.EventBuffer.AddOutgoingEvent(ctx, peer, string('a'+n), "wa", []byte("text")),
			d.MsgSecrets.PutMessageSecret(ctx, peer, peer, string('a'+n), []byte("secret")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	s.now = func() time.Time { return now }
	if err := errors.Join(d.EventBuffer.DeleteOldBufferedHashes(ctx), d.EventBuffer.DeleteOldOutgoingEvents(ctx)); err != nil {
		t.Fatal(err)
	}
	for n, age := range ages {
		event, err := d.EventBuffer.GetBufferedEvent(ctx, [32]byte{n})
		if err != nil || (event != nil) != (age < 14*day) {
			t.Errorf("an event of %v ago is there: %t, %v", age, event != nil, err)
		}
		if _, text, err := d.EventBuffer.GetOutgoingEvent(ctx, peer, phone, string('a'+n)); (err == nil && text != nil) != (age < 7*day) {
			t.Errorf("a message sent %v ago is there: %t, %v", age, text != nil, err)
		}
		secret, _, err := d.MsgSecrets.GetMessageSecret(ctx, peer, peer, string('a'+n))
		if err != nil || (secret != nil) != (age < 90*day) {
			t.Errorf("a secret of %v ago is there: %t, %v", age, secret != nil, err)
		}
	}
}

// A session that does not decode is kept aside, byte for byte, and counted; a new one takes its place.
func TestABrokenSessionIsSetAside(t *testing.T) {
	t.Parallel()
	address := mongotest.New(t)
	s := open(t, address)
	d := storetest.Pair(t, s.Devices(), "100")
	if err := d.Sessions.PutSession(t.Context(), "9_1:0", storetest.Session(1)); err != nil {
		t.Fatal(err)
	}
	junk := []byte("damaged by somebody")
	id := d.ID.String() + "/" + kindSession + "/9_1:0"
	if _, err := s.sessions.UpdateOne(t.Context(), byID(id), set(bson.D{{Key: "data", Value: junk}})); err != nil {
		t.Fatal(err)
	}
	s = open(t, address)
	d, err := s.Devices().GetDevice(t.Context(), *d.ID)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if has, err := d.Sessions.HasSession(t.Context(), "9_1:0"); err != nil || has {
			t.Errorf("has a broken session: %t, %v", has, err)
		}
	}
	if n := s.BrokenSessions(); n != 1 {
		t.Errorf("%d sessions were set aside, want 1", n)
	}
	var aside []value
	cursor, err := s.sessions.Find(t.Context(), bson.D{{Key: "kind", Value: kindBrokenSession}})
	if err == nil {
		err = cursor.All(t.Context(), &aside)
	}
	if err != nil || len(aside) != 1 || aside[0].Key != "9_1:0" || !bytes.Equal(aside[0].Data, junk) {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

// What passes, or what an operator must end, is an outage: nothing is lost by it. A mistake of ours is none.
func TestIsOutage(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		err  error
		want bool
	}{
		"none":                      {nil, false},
		"not primary":               {mongo.CommandError{Code: 10107, Name: "NotWritablePrimary"}, true},
		"stepped down":              {mongo.CommandError{Code: 189, Name: "PrimarySteppedDown"}, true},
		"shutting down":             {mongo.CommandError{Code: 91, Name: "ShutdownInProgress"}, true},
		"interrupted":               {mongo.CommandError{Code: 11600, Name: "InterruptedAtShutdown"}, true},
		"a majority is missing":     {mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 64, Name: "WriteConcernTimeout"}}, true},
		"in a bulk":                 {mongo.BulkWriteException{WriteConcernError: &mongo.WriteConcernError{Code: 189}}, true},
		"no space":                  {mongo.CommandError{Code: 14031, Name: "OutOfDiskSpace"}, true},
		"a label":                   {mongo.CommandError{Code: 1, Labels: []string{"RetryableWriteError"}}, true},
		"a password changed":        {mongo.CommandError{Code: 18, Name: "AuthenticationFailed"}, true},
		"a cursor is gone":          {mongo.CommandError{Code: 43, Name: "CursorNotFound"}, true},
		"no majority can confirm":   {mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 100, Name: "UnsatisfiableWriteConcern"}}, true},
		"a duplicate":               {mongo.WriteException{WriteErrors: []mongo.WriteError{{Code: 11000}}}, false},
		"a command that is wrong":   {mongo.CommandError{Code: 9, Name: "FailedToParse"}, false},
		"a value of a wrong length": {errLength, false},
	} {
		if got := isOutage(row.err); got != row.want {
			t.Errorf("%s: %t, want %t", name, got, row.want)
		}
		if err := wrapOutage("write", row.err); row.err != nil && errors.Is(err, context.Canceled) != row.want {
			t.Errorf("%s: as whatsmeow sees it: %v", name, err)
		}
	}
}
