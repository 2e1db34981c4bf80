package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	grouprecord "go.mau.fi/libsignal/groups/state/record"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// Report is what Check has found in a store.
type Report struct {
	Device *Device // nil where there is none
	Rows   Summary
	// Wrong has a sentence for each row that is not as it must be. Addresses and contents are not part of them.
	Wrong []string
}

// Check reads a whole store, and where something is wrong reads it once more: a running bot may have been writing just that.
func Check(ctx context.Context, s Store) (Report, error) {
	r, err := read(ctx, s)
	if err != nil || len(r.Wrong) == 0 {
		return r, err
	}
	return read(ctx, s)
}

func read(ctx context.Context, s Store) (Report, error) {
	r := Report{Rows: Summary{}}
	c := checker{versions: map[string]bool{}}
	err := s.Rows(ctx, func(row Row) error {
		if d, ok := row.(Device); ok {
			r.Device = &d
		}
		if err := c.check(row); err != nil {
			r.Wrong = append(r.Wrong, fmt.Sprintf("%s %d: %v", row.Kind(), r.Rows[row.Kind()].Count+1, err))
		}
		return r.Rows.add(row)
	})
	return r, err
}

// checker remembers what later rows are checked against.
type checker struct {
	versions map[string]bool
	last     int64 // pre-key
}

func (c *checker) check(r Row) error {
	switch r := r.(type) {
	case Device:
		jid, err := types.ParseJID(r.JID)
		if err != nil || jid.Device == 0 {
			return errors.New("its address is not a linked device's")
		}
		return errors.Join(length("noise key", r.NoiseKey, 32), length("identity key", r.IdentityKey, 32),
			length("signed pre-key", r.SignedPreKey, 32), length("signed pre-key's signature", r.SignedPreKeySignature, 64),
			length("account's signature", r.AccountSignature, 64), length("account's key", r.AccountSignatureKey, 32),
			length("device's signature", r.DeviceSignature, 64))
	case Identity:
		return length("key", r.Key, 32)
	case Session:
		return DecodeSession(r.Record)
	case PreKey:
		c.last = max(c.last, r.ID)
		return length("key", r.Private, 32)
	case PreKeyCount:
		if r.Next <= c.last {
			return fmt.Errorf("the next pre-key would be %d, and there is one with %d", r.Next, c.last)
		}
	case SenderKey:
		return decodeSenderKey(r.Record)
	case Version:
		c.versions[r.Name] = true
		return length("hash", r.Hash, 128)
	case MAC:
		if !c.versions[r.Name] {
			return errors.New("its app state version is missing")
		}
		return errors.Join(length("index", r.Index, 32), length("value", r.Value, 32))
	case Event:
		return length("hash", r.Hash, 32)
	case Heard:
		_, err := r.Read()
		return err
	case Turn:
		if len(r.Messages) == 0 {
			return errors.New("it has no messages")
		}
		if r.Reply != "" && !json.Valid([]byte(r.Reply)) {
			return errors.New("its reply cannot be read")
		}
		for _, m := range r.Messages {
			if _, err := m.Read(); err != nil {
				return err
			}
		}
	case Waiting:
		_, err := r.Read()
		return err
	}
	return nil
}

func length(what string, b []byte, want int) error {
	if len(b) != want {
		return fmt.Errorf("the %s has %d bytes, not %d", what, len(b), want)
	}
	return nil
}

// DecodeSession says why the data is no session. libsignal panics on some data.
func DecodeSession(data []byte) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the session cannot be read")
		}
	}()
	s := store.SignalProtobufSerializer
	if _, err := record.NewSessionFromBytes(data, s.Session, s.State); err != nil {
		return errors.New("the session cannot be read") // the cause would quote it
	}
	return nil
}

func decodeSenderKey(data []byte) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the sender key cannot be read")
		}
	}()
	s := store.SignalProtobufSerializer
	if _, err := grouprecord.NewSenderKeyFromBytes(data, s.SenderKeyRecord, s.SenderKeyState); err != nil {
		return errors.New("the sender key cannot be read")
	}
	return nil
}

// PairedAt is when the device was linked, which its account has signed; zero where that cannot be read.
func (d Device) PairedAt() time.Time {
	var details waAdv.ADVDeviceIdentity
	if proto.Unmarshal(d.AdvDetails, &details) != nil || details.Timestamp == nil {
		return time.Time{}
	}
	return time.Unix(int64(*details.Timestamp), 0)
}
