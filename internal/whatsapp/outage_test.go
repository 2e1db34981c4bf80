package whatsapp_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"

	"wabot/internal/chat"
	"wabot/internal/whatsapp"
	"wabot/internal/whatsapptest"
)

// faults makes one method of a device's store fail once.
type faults struct {
	mu    sync.Mutex
	armed string
	fired chan string
}

func (f *faults) arm(method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = method
}

// hit fails if method is to fail.
func (f *faults) hit(method string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed != method {
		return nil
	}
	f.armed = ""
	f.fired <- method
	return errors.New("no space left on device")
}

// devicesAround puts something around the stores of each device, when it is paired.
type devicesAround struct {
	whatsapp.Devices
	put func(*store.Device)
}

func (d devicesAround) NewDevice() *store.Device {
	device := d.Devices.NewDevice()
	device.Container = containerAround{device.Container, d.put}
	return device
}

type containerAround struct {
	store.DeviceContainer
	put func(*store.Device)
}

func (c containerAround) PutDevice(ctx context.Context, d *store.Device) error {
	paired := d.Initialized
	if err := c.DeviceContainer.PutDevice(ctx, d); err != nil || paired {
		return err
	}
	c.put(d)
	return nil
}

// faulty puts faults into the devices of a store.
func faulty(d whatsapp.Devices, f *faults) whatsapp.Devices {
	return devicesAround{d, func(d *store.Device) {
		d.SetAllStores(faultyStore{d.Sessions.(store.AllSessionSpecificStores), f})
		d.LIDs = faultyLIDs{d.LIDs, f}
	}}
}

type faultyLIDs struct {
	store.LIDStore
	f *faults
}

func (l faultyLIDs) GetLIDForPN(ctx context.Context, pn types.JID) (types.JID, error) {
	if err := l.f.hit("GetLIDForPN"); err != nil {
		return types.JID{}, err
	}
	return l.LIDStore.GetLIDForPN(ctx, pn)
}

type faultyStore struct {
	store.AllSessionSpecificStores
	f *faults
}

func (s faultyStore) GetBufferedEvent(ctx context.Context, hash [32]byte) (*store.BufferedEvent, error) {
	if err := s.f.hit("GetBufferedEvent"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetBufferedEvent(ctx, hash)
}

func (s faultyStore) PutBufferedEvent(ctx context.Context, hash [32]byte, plain []byte, at time.Time) error {
	if err := s.f.hit("PutBufferedEvent"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutBufferedEvent(ctx, hash, plain, at)
}

func (s faultyStore) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	if err := s.f.hit("DoDecryptionTxn"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.DoDecryptionTxn(ctx, fn)
}

func (s faultyStore) GetSession(ctx context.Context, address string) ([]byte, error) {
	if err := s.f.hit("GetSession"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetSession(ctx, address)
}

func (s faultyStore) PutSession(ctx context.Context, address string, session []byte) error {
	if err := s.f.hit("PutSession"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutSession(ctx, address, session)
}

func (s faultyStore) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (bool, error) {
	if err := s.f.hit("IsTrustedIdentity"); err != nil {
		return false, err
	}
	return s.AllSessionSpecificStores.IsTrustedIdentity(ctx, address, key)
}

func (s faultyStore) PutIdentity(ctx context.Context, address string, key [32]byte) error {
	if err := s.f.hit("PutIdentity"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutIdentity(ctx, address, key)
}

func (s faultyStore) GetPreKey(ctx context.Context, id uint32) (*keys.PreKey, error) {
	if err := s.f.hit("GetPreKey"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetPreKey(ctx, id)
}

func (s faultyStore) RemovePreKey(ctx context.Context, id uint32) error {
	if err := s.f.hit("RemovePreKey"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.RemovePreKey(ctx, id)
}

func (s faultyStore) GetSenderKey(ctx context.Context, group, user string) ([]byte, error) {
	if err := s.f.hit("GetSenderKey"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetSenderKey(ctx, group, user)
}

func (s faultyStore) PutSenderKey(ctx context.Context, group, user string, key []byte) error {
	if err := s.f.hit("PutSenderKey"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutSenderKey(ctx, group, user, key)
}

// A store that fails while a message is decrypted leaves the message with WhatsApp's server, and it comes
// again: it is neither lost nor asked for from its sender, who would have to send it anew.
func TestStoreFailureWhileDecryptingLosesNothing(t *testing.T) {
	t.Parallel()
	// A conversation's first message begins a session, by a pre-key; in a group it brings a sender key.
	type kind string
	const first, group, firstInGroup kind = "first", "in a group", "first in a group"
	for _, test := range []struct {
		method string
		kind   kind
	}{
		{"GetBufferedEvent", first}, {"DoDecryptionTxn", first}, {"GetSession", first}, {"PutSession", first},
		{"IsTrustedIdentity", first}, {"PutIdentity", first}, {"GetPreKey", first}, {"RemovePreKey", first}, {"PutBufferedEvent", first},
		{"GetSenderKey", group}, {"PutSenderKey", group}, {"GetSenderKey", firstInGroup}, {"PutSenderKey", firstInGroup},
	} {
		t.Run(fmt.Sprintf("%s, %s", test.method, test.kind), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			s := whatsapptest.New(t)
			owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
			var retries sync.Map
			s.OnStanza(func(st whatsapptest.Stanza) {
				if st.Node.Tag == "receipt" && st.Node.AttrGetter().OptionalString("type") == "retry" {
					retries.Store(st.Node.AttrGetter().OptionalString("id"), true)
				}
			})
			f := &faults{fired: make(chan string, 1)}
			got := make(chan string, 10)
			newClientOn(t, s, owner, func(d whatsapp.Devices) whatsapp.Devices { return faulty(d, f) }, func(_ *whatsapp.Client, m chat.Message) error {
				got <- m.Text
				return nil
			})
			to := owner.LID()
			if test.kind != first {
				var err error
				if to, err = alice.Group(ctx, "friends", owner.LID()); err != nil {
					t.Fatal(err)
				}
			}
			if test.kind == group {
				if _, err := alice.Say(ctx, to, "before"); err != nil {
					t.Fatal(err)
				}
				<-got
			}
			f.arm(test.method)
			for i := range 2 {
				if _, err := alice.Say(ctx, to, fmt.Sprint("message ", i)); err != nil {
					t.Fatal(err)
				}
			}
			heard := map[string]int{}
			for len(heard) < 2 {
				select {
				case text := <-got:
					heard[text]++
				case <-ctx.Done():
					t.Fatalf("got %v of two messages", heard)
				}
			}
			select {
			case <-f.fired:
			default:
				t.Fatalf("%s was never called, so nothing was tested", test.method)
			}
			retries.Range(func(id, _ any) bool {
				t.Errorf("asked the sender for message %v again", id)
				return true
			})
		})
	}
}

// A stream error that is taken only after the next login makes whatsmeow take itself for logged out, on a connection that is
// well: nobody but us mends that.
func TestStreamErrorAfterTheNextLogin(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := whatsapptest.New(t)
	owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
	got := make(chan string, 10)
	c := newClient(t, s, owner, func(_ *whatsapp.Client, m chat.Message) error {
		got <- m.Text
		return nil
	})
	if _, err := alice.Say(ctx, owner.LID(), "hi"); err != nil {
		t.Fatal(err)
	}
	<-got
	answer := func(text string) error {
		return c.Send(ctx, alice.LID().String(), chat.Part{ID: c.NewID(), Text: text}, nil)
	}
	if err := answer("one"); err != nil {
		t.Fatal(err)
	}
	s.StaleStreamError(types.EmptyJID, 503)
	for answer("not taken yet") == nil {
	}
	for err := errors.New("offline"); err != nil; err = answer("two") {
		select {
		case <-ctx.Done():
			t.Fatalf("sending never worked again: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if _, err := alice.Hear(ctx, owner.LID(), "two"); err != nil {
		t.Error(err)
	}
}
