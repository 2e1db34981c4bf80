package whatsapp_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"

	"wabot/internal/chat"
	"wabot/internal/sqlitestore"
	"wabot/internal/whatsapp"
	"wabot/internal/whatsapptest"
)

// newClient runs a client on a new file store that hands what comes to receive, paired with a
// phone.
func newClient(t *testing.T, s *whatsapptest.Server, owner *whatsapptest.Phone, receive func(c *whatsapp.Client, m chat.Message) error) *whatsapp.Client {
	t.Helper()
	return newClientOn(t, s, owner, func(d whatsapp.Devices) whatsapp.Devices { return d }, receive)
}

// newClientOn is newClient with something around the store's devices.
func newClientOn(t *testing.T, s *whatsapptest.Server, owner *whatsapptest.Phone, around func(whatsapp.Devices) whatsapp.Devices, receive func(c *whatsapp.Client, m chat.Message) error) *whatsapp.Client {
	t.Helper()
	return newClientWith(t, s, owner, func(o *whatsapp.Options) { o.Devices = around(o.Devices) }, receive)
}

// newClientWith is newClient with other options.
func newClientWith(t *testing.T, s *whatsapptest.Server, owner *whatsapptest.Phone, change func(*whatsapp.Options), receive func(c *whatsapp.Client, m chat.Message) error) *whatsapp.Client {
	t.Helper()
	c, _ := newClientToStop(t, s, owner, change, receive)
	return c
}

// newClientToStop is newClientWith for a client that can be stopped; its options will do for another then.
func newClientToStop(t *testing.T, s *whatsapptest.Server, owner *whatsapptest.Phone, change func(*whatsapp.Options), receive func(c *whatsapp.Client, m chat.Message) error) (c *whatsapp.Client, stop func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := sqlitestore.Open(t.Context(), t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	codes := make(chan string, 1)
	o := whatsapp.Options{
		Devices: store.Devices(),
		Notes:   store,
		Receive: func(_ context.Context, m chat.Message) error { return receive(c, m) },
		Sync:    store.Sync,
		Show: func(st whatsapp.State) {
			if st.QR != "" {
				select {
				case codes <- st.QR:
				default:
				}
			}
		},
		HTTP: s.HTTPClient(),
		Log:  log,
	}
	change(&o)
	c = whatsapp.New(o)
	stop = running(t, c)
	if _, err := owner.Scan(t.Context(), <-codes); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitOnline(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, stop
}

// running runs c until stop is called or the test is over.
func running(t *testing.T, c *whatsapp.Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// People ask as fast as they can while the answers to what they asked before go out: sends and
// decryptions on the same sessions all the time. Every answer arrives, and no counter is used twice,
// which the phones watch.
func TestSendsAndDecryptionsDoNotUndoEachOther(t *testing.T) {
	t.Parallel()
	people, each := 3, 100
	if os.Getenv("WABOT_LONG") != "" {
		people, each = 5, 2000
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s := whatsapptest.New(t)
	owner := s.NewPhone("owner")
	var sends sync.WaitGroup
	newClient(t, s, owner, func(c *whatsapp.Client, m chat.Message) error {
		sends.Go(func() {
			part := chat.Part{ID: c.NewID(), Text: "answer to " + m.Text}
			for ctx.Err() == nil {
				if err := c.Send(ctx, m.Chat, part, nil); err == nil {
					return
				}
			}
		})
		return nil
	})
	begin := time.Now()
	var asking sync.WaitGroup
	for i := range people {
		p := s.NewPhone(fmt.Sprintf("person %d", i))
		asking.Go(func() {
			for n := range each {
				if _, err := p.Say(ctx, owner.LID(), fmt.Sprint(n)); err != nil {
					t.Errorf("say: %v", err)
					return
				}
			}
			heard := map[string]bool{}
			err := p.Wait(ctx, func(p *whatsapptest.Phone) bool {
				for _, m := range p.Messages(owner.LID()) {
					if !m.FromMe {
						heard[m.Text] = true
					}
				}
				return len(heard) == each
			})
			if err != nil {
				t.Errorf("%s heard %d of %d answers: %v", p.Name(), len(heard), each, err)
			}
		})
	}
	asking.Wait()
	sends.Wait()
	t.Logf("%d answers in %v, none lost", people*each, time.Since(begin).Round(time.Millisecond))
}

// crossingStore calls between whenever a message is encrypted again for whoever asked for it by a retry receipt.
type crossingStore struct {
	store.AllSessionSpecificStores
	between func()
}

type keyCrossing struct{}

func (s crossingStore) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	return s.AllSessionSpecificStores.DoDecryptionTxn(context.WithValue(ctx, keyCrossing{}, true), fn)
}

func (s crossingStore) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (bool, error) {
	if ctx.Value(keyCrossing{}) == nil {
		s.between()
	}
	return s.AllSessionSpecificStores.IsTrustedIdentity(ctx, address, key)
}

// A message that is to be encrypted again, while another of its receiver comes in, arrives: the phone asks for it only once, so
// the receipt is not acknowledged until it was answered.
func TestRetryReceiptCrossedByAMessage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := whatsapptest.New(t)
	owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
	var asked atomic.Bool
	guarded := make(chan *store.Device, 1)
	s.OnStanza(func(st whatsapptest.Stanza) {
		if st.Node.Tag == "receipt" && st.Node.Attrs["type"] == "retry" {
			// So that her identity is looked up again.
			d := <-guarded
			if err := d.Identities.DeleteIdentity(ctx, "nobody:0"); err != nil {
				t.Error(err)
			}
			guarded <- d
			asked.Store(true)
		}
	})
	got := make(chan string, 10)
	var crossed atomic.Int32
	between := func() {
		if !asked.Load() || crossed.Add(1) > 1 {
			return
		}
		if _, err := alice.Say(ctx, owner.LID(), "between"); err != nil {
			t.Error(err)
		}
		<-got
	}
	c := newClientOn(t, s, owner, func(d whatsapp.Devices) whatsapp.Devices {
		return devicesAround{d, func(d *store.Device) {
			d.SetAllStores(crossingStore{d.Sessions.(store.AllSessionSpecificStores), between})
			guarded <- d
		}}
	}, func(_ *whatsapp.Client, m chat.Message) error {
		got <- m.Text
		return nil
	})
	if _, err := alice.Say(ctx, owner.LID(), "hi"); err != nil {
		t.Fatal(err)
	}
	<-got
	for _, text := range []string{"first", "answer"} {
		if err := c.Send(ctx, alice.LID().String(), chat.Part{ID: c.NewID(), Text: text}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.Hear(ctx, owner.LID(), text); err != nil {
			t.Errorf("%q was lost: %v; the crossings: %d", text, err, crossed.Load())
		}
		alice.LoseSession(owner.LID())
	}
	if crossed.Load() == 0 {
		t.Error("no message was encrypted again")
	}
}
