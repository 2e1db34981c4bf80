package device_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"wabot/internal/device"
	"wabot/internal/mongostore"
	"wabot/internal/mongotest"
	"wabot/internal/sqlitestore"
	"wabot/internal/storetest"
	"wabot/internal/whatsapptest"
)

// long asks for 10,000 answers, and for a minute of talk with one person.
var long = os.Getenv("WABOT_LONG") != ""

// places are empty stores with a new device.
var places = map[string]func(t *testing.T) *store.Device{
	"files": func(t *testing.T) *store.Device {
		s, err := sqlitestore.Open(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s.Devices().NewDevice()
	},
	"mongo": func(t *testing.T) *store.Device {
		s, err := mongostore.Open(t.Context(), mongostore.Options{URL: mongotest.New(t), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		return s.Devices().NewDevice()
	},
}

// open is a device's container with nothing that keeps two writers apart.
type open struct{ store.DeviceContainer }

func (o open) PutDevice(ctx context.Context, d *store.Device) error {
	initialized := d.Initialized
	err := o.DeviceContainer.PutDevice(ctx, d)
	if !initialized && d.Initialized {
		d.SetAllStores(&openStore{AllSessionSpecificStores: d.Sessions.(store.AllSessionSpecificStores)})
	}
	return err
}

// openStore makes no transactions. Between the read of a session and its write there is time, and a decryption that
// has read writes after a send that has read, if the send gets to write.
type openStore struct {
	store.AllSessionSpecificStores

	mu      sync.Mutex
	written chan struct{} // closed when the send that has read last has written
}

// held bounds the wait of a decryption for a send, which the guard does not let pass.
const held = 30 * time.Millisecond

func (s *openStore) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	return fn(ctx)
}

func (s *openStore) GetSession(ctx context.Context, address string) ([]byte, error) {
	session, err := s.AllSessionSpecificStores.GetSession(ctx, address)
	s.mu.Lock()
	written := s.written
	s.mu.Unlock()
	if written != nil {
		select {
		case <-written:
		case <-time.After(held):
		}
	}
	return session, err
}

func (s *openStore) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	s.mu.Lock()
	s.written = make(chan struct{})
	s.mu.Unlock()
	defer time.Sleep(rand.N(held / 3)) // as for the network
	return s.AllSessionSpecificStores.GetManySessions(ctx, addresses)
}

func (s *openStore) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	err := s.AllSessionSpecificStores.PutManySessions(ctx, sessions)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written != nil {
		close(s.written)
		s.written = nil
	}
	return err
}

// load is a bot that answers each message from a goroutine of its own, and the people who ask it.
type load struct {
	store   string
	open    bool // nothing below the guard keeps two writers apart
	guarded bool
	people  int
	each    int           // questions of each person, at least
	lasts   time.Duration // how long they ask, at least
	atOnce  int           // questions of each person in flight
}

// outcome is what became of the answers.
type outcome struct {
	answers, lost, conflicts, retries int
	// reused counts the answers with a counter that was used before. WhatsApp's phones drop them without
	// a word; the simulated ones ask for them again, so they are not lost here.
	reused int
}

// onDisk is the Sync of a store that a power cut does not concern.
func onDisk(context.Context) error { return nil }

func (l load) run(t *testing.T) (o outcome) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	var s whatsapptest.Server
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var retries, conflicts atomic.Int64
	s.OnStanza(func(st whatsapptest.Stanza) {
		if !st.ToClient && st.Node.Tag == "receipt" && st.Node.Attrs["type"] == "retry" {
			retries.Add(1)
		}
	})
	d := places[l.store](t)
	if l.open {
		d.Container = open{d.Container}
	}
	if l.guarded {
		device.Guard(d, onDisk, device.Watch{Outage: func(err error) { t.Errorf("the store failed: %v", err) }})
	}
	wm := whatsmeow.NewClient(d, waLog.Noop)
	wm.SetWebsocketHTTPClient(s.HTTPClient())
	wm.SetPreLoginHTTPClient(s.HTTPClient())
	wm.SynchronousAck, wm.EnableDecryptedEventBuffer, wm.UseRetryMessageStore = true, true, true
	wm.SetMaxParallelRetryReceiptHandling(1)

	var sends sync.WaitGroup
	code, online := make(chan string, 1), make(chan struct{}, 1)
	wm.AddEventHandler(func(evt any) {
		switch evt := evt.(type) {
		case *events.QR:
			code <- evt.Codes[0]
		case *events.OfflineSyncCompleted:
			online <- struct{}{}
		case *events.Message:
			text := evt.Message.GetConversation()
			if evt.Info.IsFromMe || text == "" {
				return
			}
			sends.Go(func() {
				extra := whatsmeow.SendRequestExtra{ID: wm.GenerateMessageID()}
				for {
					sendCtx := ctx
					if l.guarded {
						sendCtx = device.Send(ctx)
					}
					_, err := wm.SendMessage(sendCtx, evt.Info.Chat, &waE2E.Message{Conversation: proto.String("answer to " + text)}, extra)
					if err == nil {
						err = device.SendErr(sendCtx)
					}
					switch {
					case err == nil || ctx.Err() != nil:
						return
					case errors.Is(err, device.ErrConflict):
						conflicts.Add(1)
					}
				}
			})
		}
	})
	if err := wm.ConnectContext(ctx); err != nil {
		t.Fatal(err)
	}
	defer wm.Disconnect()
	owner := s.NewPhone("owner")
	bot, err := owner.Scan(ctx, <-code)
	if err != nil {
		t.Fatal(err)
	}
	<-online

	begin := time.Now()
	var phones []*whatsapptest.Phone
	for i := range l.people {
		phones = append(phones, s.NewPhone(fmt.Sprintf("person %d", i)))
	}
	asked := make([]int, l.people)
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	var asking sync.WaitGroup
	for i, p := range phones {
		waiting := make(chan struct{}, l.atOnce)
		answers := p.Watch(watching)
		go func() {
			for change := range answers {
				if change.Kind == "message" && !change.Message.FromMe {
					<-waiting
				}
			}
		}()
		asking.Go(func() {
			for l.lasts > 0 && time.Since(begin) < l.lasts || asked[i] < l.each {
				select {
				case waiting <- struct{}{}:
				case <-ctx.Done():
					return
				}
				if _, err := p.Say(ctx, owner.LID(), fmt.Sprint("question ", asked[i])); err != nil {
					t.Errorf("%s: %v", p.Name(), err)
					return
				}
				asked[i]++
			}
		})
	}
	asking.Wait()
	// All is over when neither side has anything to say to the other.
	for before := int64(-1); before != retries.Load(); {
		before = retries.Load()
		for _, jid := range append([]types.JID{bot}, devices(phones)...) {
			if err := s.WaitSettled(ctx, jid); err != nil {
				t.Fatal(err)
			}
			sends.Wait()
		}
	}
	for i, p := range phones {
		o.answers += asked[i]
		o.lost += asked[i] - heard(p, owner.LID())
		for _, f := range p.Failures() {
			if strings.Contains(f, "twice") || strings.Contains(f, "went back") {
				o.reused++
			}
		}
	}
	o.conflicts, o.retries = int(conflicts.Load()), int(retries.Load())
	t.Logf("%d answers in %v: %d lost, %d counters used twice, %d retry receipts, %d conflicts seen in time",
		o.answers, time.Since(begin).Round(time.Millisecond), o.lost, o.reused, o.retries, o.conflicts)
	return o
}

func devices(phones []*whatsapptest.Phone) (all []types.JID) {
	for _, p := range phones {
		all = append(all, p.JID())
	}
	return all
}

// heard counts the different messages that a phone shows from somebody.
func heard(p *whatsapptest.Phone, chat types.JID) int {
	texts := map[string]bool{}
	for _, m := range p.Messages(chat) {
		if !m.FromMe {
			texts[m.Text] = true
		}
	}
	return len(texts)
}

// Sends and decryptions on the same sessions all the time, on a store that does not keep them apart:
// without the guard counters are used twice and answers are lost, which shows that this load is one. With
// it, on the same store and on the whole ones, none is.
func TestAnswersUnderLoad(t *testing.T) {
	t.Parallel()
	for name := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("unguarded and open", func(t *testing.T) {
				// On a busy machine the messages may happen to miss each other, time and again.
				for range 15 {
					if o := (load{store: name, open: true, people: 3, each: 25, atOnce: 25}).run(t); o.lost+o.reused > 0 {
						return
					}
				}
				t.Error("no answer was lost and no counter used twice: this load proves nothing")
			})
			guarded := []load{
				{open: true, people: 3, each: 25, atOnce: 25},
				{people: 3, each: 25, atOnce: 25},
			}
			if long {
				guarded = []load{
					{open: true, people: 20, each: 100, atOnce: 20},
					{people: 50, each: 200, atOnce: 20},
					{people: 1, lasts: time.Minute, atOnce: 20},
				}
			}
			for _, l := range guarded {
				l.store, l.guarded = name, true
				t.Run(fmt.Sprintf("guarded, open %t, %d people", l.open, l.people), func(t *testing.T) {
					if o := l.run(t); o.lost > 0 || o.reused > 0 {
						t.Errorf("%d answers were lost, %d counters used twice", o.lost, o.reused)
					}
				})
			}
		})
	}
}

// Pre-keys are made for an upload while others are made for retry receipts: none waits for the other for ever, and no ID is given twice.
func TestPreKeysAtOnce(t *testing.T) {
	t.Parallel()
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := place(t)
			storetest.Save(t, d, "100")
			device.Guard(d, onDisk, device.Watch{})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var mu sync.Mutex
			seen := map[uint32]bool{}
			take := func(list ...*keys.PreKey) {
				mu.Lock()
				defer mu.Unlock()
				for _, k := range list {
					if seen[k.KeyID] {
						t.Errorf("pre-key %d was made twice", k.KeyID)
					}
					seen[k.KeyID] = true
				}
			}
			var making sync.WaitGroup
			for range 4 {
				making.Go(func() {
					for range 5 {
						k, err := d.PreKeys.GenOnePreKey(ctx)
						if err != nil {
							t.Error(err)
							return
						}
						take(k)
					}
				})
			}
			begin := time.Now()
			list, err := d.PreKeys.GetOrGenPreKeys(ctx, 812)
			if err != nil || len(list) != 812 {
				t.Fatalf("%d pre-keys, %v", len(list), err)
			}
			t.Logf("812 pre-keys in %v", time.Since(begin).Round(time.Millisecond))
			take(list...)
			making.Wait()
		})
	}
}
