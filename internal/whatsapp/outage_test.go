package whatsapp_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"

	"wabot/internal/chat"
	"wabot/internal/mongostore"
	"wabot/internal/mongotest"
	"wabot/internal/whatsapp"
	"wabot/internal/whatsapptest"
)

// faults makes one method of a device's store fail once.
type faults struct {
	mu    sync.Mutex
	armed string
	only  any // key of a value of the contexts in which it fails, nil for all
	fired chan string
}

func (f *faults) arm(method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = method
}

// hit fails if method is to fail.
func (f *faults) hit(ctx context.Context, method string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed != method || f.only != nil && ctx.Value(f.only) == nil {
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

func (l faultyLIDs) GetPNForLID(ctx context.Context, lid types.JID) (types.JID, error) {
	if err := l.f.hit(ctx, "GetPNForLID"); err != nil {
		return types.JID{}, err
	}
	return l.LIDStore.GetPNForLID(ctx, lid)
}

func (l faultyLIDs) PutLIDMapping(ctx context.Context, lid, pn types.JID) error {
	if err := l.f.hit(ctx, "PutLIDMapping"); err != nil {
		return err
	}
	return l.LIDStore.PutLIDMapping(ctx, lid, pn)
}

func (l faultyLIDs) GetLIDForPN(ctx context.Context, pn types.JID) (types.JID, error) {
	if err := l.f.hit(ctx, "GetLIDForPN"); err != nil {
		return types.JID{}, err
	}
	return l.LIDStore.GetLIDForPN(ctx, pn)
}

type faultyStore struct {
	store.AllSessionSpecificStores
	f *faults
}

func (s faultyStore) GetBufferedEvent(ctx context.Context, hash [32]byte) (*store.BufferedEvent, error) {
	if err := s.f.hit(ctx, "GetBufferedEvent"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetBufferedEvent(ctx, hash)
}

func (s faultyStore) PutBufferedEvent(ctx context.Context, hash [32]byte, plain []byte, at time.Time) error {
	if err := s.f.hit(ctx, "PutBufferedEvent"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutBufferedEvent(ctx, hash, plain, at)
}

func (s faultyStore) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	if err := s.f.hit(ctx, "DoDecryptionTxn"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.DoDecryptionTxn(ctx, fn)
}

func (s faultyStore) GetSession(ctx context.Context, address string) ([]byte, error) {
	if err := s.f.hit(ctx, "GetSession"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetSession(ctx, address)
}

func (s faultyStore) PutSession(ctx context.Context, address string, session []byte) error {
	if err := s.f.hit(ctx, "PutSession"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutSession(ctx, address, session)
}

func (s faultyStore) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (bool, error) {
	if err := s.f.hit(ctx, "IsTrustedIdentity"); err != nil {
		return false, err
	}
	return s.AllSessionSpecificStores.IsTrustedIdentity(ctx, address, key)
}

func (s faultyStore) PutIdentity(ctx context.Context, address string, key [32]byte) error {
	if err := s.f.hit(ctx, "PutIdentity"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutIdentity(ctx, address, key)
}

func (s faultyStore) GetPreKey(ctx context.Context, id uint32) (*keys.PreKey, error) {
	if err := s.f.hit(ctx, "GetPreKey"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetPreKey(ctx, id)
}

func (s faultyStore) RemovePreKey(ctx context.Context, id uint32) error {
	if err := s.f.hit(ctx, "RemovePreKey"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.RemovePreKey(ctx, id)
}

func (s faultyStore) GetSenderKey(ctx context.Context, group, user string) ([]byte, error) {
	if err := s.f.hit(ctx, "GetSenderKey"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetSenderKey(ctx, group, user)
}

func (s faultyStore) PutSenderKey(ctx context.Context, group, user string, key []byte) error {
	if err := s.f.hit(ctx, "PutSenderKey"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutSenderKey(ctx, group, user, key)
}

func (s faultyStore) PutMessageSecret(ctx context.Context, chat, sender types.JID, id types.MessageID, secret []byte) error {
	if err := s.f.hit(ctx, "PutMessageSecret"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutMessageSecret(ctx, chat, sender, id, secret)
}

func (s faultyStore) DeleteSession(ctx context.Context, address string) error {
	if err := s.f.hit(ctx, "DeleteSession"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.DeleteSession(ctx, address)
}

func (s faultyStore) DeleteIdentity(ctx context.Context, address string) error {
	if err := s.f.hit(ctx, "DeleteIdentity"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.DeleteIdentity(ctx, address)
}

func (s faultyStore) GetPrivacyToken(ctx context.Context, user types.JID) (*store.PrivacyToken, error) {
	if err := s.f.hit(ctx, "GetPrivacyToken"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetPrivacyToken(ctx, user)
}

func (s faultyStore) GetNCTSalt(ctx context.Context) ([]byte, error) {
	if err := s.f.hit(ctx, "GetNCTSalt"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetNCTSalt(ctx)
}

func (s faultyStore) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	if err := s.f.hit(ctx, "GetManySessions"); err != nil {
		return nil, err
	}
	return s.AllSessionSpecificStores.GetManySessions(ctx, addresses)
}

func (s faultyStore) PutManySessions(ctx context.Context, all map[string][]byte) error {
	if err := s.f.hit(ctx, "PutManySessions"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.PutManySessions(ctx, all)
}

func (s faultyStore) AddOutgoingEvent(ctx context.Context, chat types.JID, id types.MessageID, format string, plain []byte) error {
	if err := s.f.hit(ctx, "AddOutgoingEvent"); err != nil {
		return err
	}
	return s.AllSessionSpecificStores.AddOutgoingEvent(ctx, chat, id, format, plain)
}

// onBoth runs a test on the file store and on MongoDB. What change does, with more, makes a client use it.
func onBoth(t *testing.T, test func(t *testing.T, change func(*whatsapp.Options))) {
	t.Run("files", func(t *testing.T) {
		t.Parallel()
		test(t, func(*whatsapp.Options) {})
	})
	t.Run("mongo", func(t *testing.T) {
		if testing.Short() {
			t.Skip("on MongoDB only without -short")
		}
		t.Parallel()
		s, err := mongostore.Open(t.Context(), mongostore.Options{URL: mongotest.New(t), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		test(t, func(o *whatsapp.Options) { o.Devices, o.Notes = s.Devices(), s })
	})
}

// What a message brings with it is stored before the message is acknowledged: its secret, without which what is said of it
// later cannot be read, and which phone number its sender's hidden address belongs to.
func TestWhatAMessageBringsIsKept(t *testing.T) {
	t.Parallel()
	for method, kept := range map[string]func(ctx context.Context, d *store.Device, alice *whatsapptest.Phone, id types.MessageID) (bool, error){
		"PutMessageSecret": func(ctx context.Context, d *store.Device, alice *whatsapptest.Phone, id types.MessageID) (bool, error) {
			secret, _, err := d.MsgSecrets.GetMessageSecret(ctx, alice.LID(), alice.LID(), id)
			return len(secret) == 32, err
		},
		"PutLIDMapping": func(ctx context.Context, d *store.Device, alice *whatsapptest.Phone, _ types.MessageID) (bool, error) {
			pn, err := d.LIDs.GetPNForLID(ctx, alice.LID())
			return pn.User == alice.JID().User, err
		},
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, change func(*whatsapp.Options)) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				s := whatsapptest.New(t)
				owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
				f := &faults{fired: make(chan string, 1)}
				got := make(chan string, 10)
				var below *store.Device
				newClientWith(t, s, owner, func(o *whatsapp.Options) {
					change(o)
					o.Devices = devicesAround{o.Devices, func(d *store.Device) {
						inner := *d
						below = &inner
						d.SetAllStores(faultyStore{d.Sessions.(store.AllSessionSpecificStores), f})
						d.LIDs = faultyLIDs{d.LIDs, f}
					}}
				}, func(_ *whatsapp.Client, m chat.Message) error {
					got <- m.Text
					return nil
				})
				f.arm(method)
				id, err := alice.Say(ctx, owner.LID(), "hi")
				if err != nil {
					t.Fatal(err)
				}
				select {
				case <-got:
				case <-ctx.Done():
					t.Fatal("the message never came")
				}
				select {
				case <-f.fired:
				default:
					t.Fatalf("%s was never called, so nothing was tested", method)
				}
				if ok, err := kept(ctx, below, alice, id); err != nil || !ok {
					t.Errorf("acknowledged, but not stored (%v)", err)
				}
			})
		})
	}
}

// A send during which the store fails counts as not sent, whichever of its calls it is, and again with the same ID is one message.
func TestStoreFailureDuringASend(t *testing.T) {
	t.Parallel()
	for _, method := range []string{
		"GetPNForLID", "AddOutgoingEvent", "PutMessageSecret", "GetManySessions", "IsTrustedIdentity", "PutManySessions", "GetPrivacyToken", "GetNCTSalt",
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, change func(*whatsapp.Options)) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				s := whatsapptest.New(t)
				owner, alice, to := s.NewPhone("owner"), s.NewPhone("alice"), s.NewPhone("bob")
				if method != "IsTrustedIdentity" { // which is for people whose identity was not stored yet
					to = alice
				}
				type sending struct{}
				f := &faults{only: sending{}, fired: make(chan string, 1)}
				got := make(chan string, 10)
				c := newClientWith(t, s, owner, func(o *whatsapp.Options) {
					change(o)
					o.Devices = faulty(o.Devices, f)
				}, func(_ *whatsapp.Client, m chat.Message) error {
					got <- m.Text
					return nil
				})
				if _, err := alice.Say(ctx, owner.LID(), "hi"); err != nil {
					t.Fatal(err)
				}
				<-got
				part := chat.Part{ID: c.NewID(), Text: "answer"}
				f.arm(method)
				if err := c.Send(context.WithValue(ctx, sending{}, true), to.LID().String(), part, nil); err == nil {
					t.Error("the send is said to have succeeded")
				}
				select {
				case <-f.fired:
				default:
					t.Fatalf("%s was never called, so nothing was tested", method)
				}
				if err := c.Send(ctx, to.LID().String(), part, nil); err != nil {
					t.Error(err)
				}
				if _, err := to.Hear(ctx, owner.LID(), "answer"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// To WhatsApp's server a read receipt is an acknowledgement as any other: none goes out before the message is there to stay.
func TestReadReceiptWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := whatsapptest.New(t)
	owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
	var held atomic.Bool
	disk := make(chan struct{})
	newClientWith(t, s, owner, func(o *whatsapp.Options) {
		sync := o.Sync
		o.Sync = func(ctx context.Context) error {
			if held.Load() {
				<-disk
			}
			return sync(ctx)
		}
	}, func(c *whatsapp.Client, m chat.Message) error {
		held.Store(true)
		c.MarkRead(ctx, []chat.Message{m})
		return nil
	})
	id, err := alice.Say(ctx, owner.LID(), "hi")
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := func(p *whatsapptest.Phone) bool { return len(p.ReceiptsOf(id)) > 1 } // the owner's phone has it too
	early, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if alice.Wait(early, acknowledged) == nil {
		t.Errorf("before the disk had the message: %v", alice.ReceiptsOf(id))
	}
	close(disk)
	if err := alice.Wait(ctx, func(p *whatsapptest.Phone) bool { _, read := p.Receipts(id); return read }); err != nil {
		t.Error(err)
	}
}

// What the account's phone gives of a message that did not decrypt is acknowledged by whatsmeow whatever becomes of it: it is not lost
// when it cannot be stored at first, nor when the bot stops before it can.
func TestWhatThePhoneGivesIsStored(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"later": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, change func(*whatsapp.Options)) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				s := whatsapptest.New(t)
				owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
				got, refused := make(chan string, 10), make(chan string, 10)
				var broken atomic.Bool
				var below *store.Device
				var options whatsapp.Options
				_, stop := newClientToStop(t, s, owner, func(o *whatsapp.Options) {
					change(o)
					o.Devices = devicesAround{o.Devices, func(d *store.Device) { inner := *d; below = &inner }}
					options = *o
				}, func(_ *whatsapp.Client, m chat.Message) error {
					if broken.Load() {
						refused <- m.Text
						return errors.New("no space left on device")
					}
					got <- m.Text
					return nil
				})
				if _, err := owner.Say(ctx, owner.LID(), "before"); err != nil { // so that there is a session with the phone
					t.Fatal(err)
				}
				<-got
				if _, err := alice.Say(ctx, owner.LID(), "hi"); err != nil {
					t.Fatal(err)
				}
				<-got
				if err := below.Sessions.DeleteAllSessions(ctx, alice.LID().SignalAddressUser()); err != nil {
					t.Fatal(err)
				}
				broken.Store(true)
				bot := s.Linked(owner.JID())[0]
				if err := s.WaitSettled(ctx, bot); err != nil {
					t.Fatal(err)
				}
				s.Stall(bot)
				if _, err := alice.Say(ctx, owner.LID(), "what now?"); err != nil {
					t.Fatal(err)
				}
				alice.Offline() // only the phone has it now
				s.Unstall(bot)
				select {
				case <-refused:
				case <-ctx.Done():
					t.Fatal("the phone gave nothing")
				}
				if restart {
					time.Sleep(200 * time.Millisecond) // so that what is acknowledged too early is
					stop()
				}
				broken.Store(false)
				if restart {
					running(t, whatsapp.New(options))
				}
				select {
				case <-got:
				case <-ctx.Done():
					t.Error("it never came again")
				}
			})
		})
	}
}

// A message that comes without its text is asked of the account's phone again where that failed, also after a restart: whatsmeow
// acknowledges it in any case.
func TestThePhoneIsAskedAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, change func(*whatsapp.Options)) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		s := whatsapptest.New(t)
		owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
		f := &faults{fired: make(chan string, 1)}
		got, noted := make(chan string, 10), make(chan bool, 10)
		var options whatsapp.Options
		_, stop := newClientToStop(t, s, owner, func(o *whatsapp.Options) {
			change(o)
			o.Devices = faulty(o.Devices, f)
			o.Marks = func(marks []chat.Mark) {
				if marks[0].Fate == chat.Undecrypted {
					noted <- true
				}
			}
			options = *o
		}, func(_ *whatsapp.Client, m chat.Message) error {
			got <- m.Text
			return nil
		})
		if _, err := owner.Say(ctx, owner.LID(), "before"); err != nil {
			t.Fatal(err)
		}
		<-got
		bot := s.Linked(owner.JID())[0]
		if err := s.WaitSettled(ctx, bot); err != nil { // there is a session with the phone, and nothing else comes of it
			t.Fatal(err)
		}
		s.Withhold(bot, 1)
		f.arm("PutSession")
		if _, err := alice.Say(ctx, owner.LID(), "hi"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-noted:
		case <-ctx.Done():
			t.Fatal("it was not said that a message came without its text")
		}
		select {
		case <-f.fired:
		default:
			t.Fatal("the phone was asked, so nothing was tested")
		}
		stop()
		running(t, whatsapp.New(options))
		select {
		case <-got:
		case <-ctx.Done():
			t.Fatal("it never came")
		}
		if note, err := options.Notes.Note(ctx, "whatsapp.unavailable"); err != nil || string(note) != "{}" {
			t.Errorf("still noted: %s, %v", note, err)
		}
	})
}

// To WhatsApp's server the request to upload a medium again is a receipt, too.
func TestRequestToUploadAgainWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := whatsapptest.New(t)
	owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
	asked := make(chan struct{}, 1)
	s.OnStanza(func(st whatsapptest.Stanza) {
		if !st.ToClient && st.Node.Tag == "receipt" && st.Node.Attrs["type"] == "server-error" {
			asked <- struct{}{}
		}
	})
	got := make(chan chat.Message, 1)
	var held atomic.Bool
	disk := make(chan struct{})
	c := newClientWith(t, s, owner, func(o *whatsapp.Options) {
		sync := o.Sync
		o.Sync = func(ctx context.Context) error {
			if held.Load() {
				<-disk
			}
			return sync(ctx)
		}
	}, func(_ *whatsapp.Client, m chat.Message) error {
		got <- m
		return nil
	})
	if _, err := alice.Send(ctx, owner.LID(), whatsapptest.Draft{Document: &whatsapptest.Media{Data: []byte("all of it"), Mime: "text/plain", Name: "a.txt"}}); err != nil {
		t.Fatal(err)
	}
	m := <-got
	if err := owner.Wait(ctx, func(p *whatsapptest.Phone) bool { return len(p.Messages(alice.LID())) > 0 }); err != nil { // with the file
		t.Fatal(err)
	}
	s.ForgetMedia(410)
	held.Store(true)
	fetched := make(chan error, 1)
	go func() {
		_, err := c.Fetch(ctx, m, false, 100)
		fetched <- err
	}()
	select {
	case <-asked:
		t.Error("asked before the disk had the message")
	case err := <-fetched:
		t.Fatalf("fetched without a request: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	close(disk)
	if err := <-fetched; err != nil {
		t.Error(err)
	}
}

// Where WhatsApp's server does not give the pre-keys that a new device of the receiver needs, or has not told of that device, whatsmeow
// leaves it out and says nothing: they are asked for again, but not for ever.
func TestDevicesLeftOut(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := whatsapptest.New(t)
	owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
	laptop := alice.AddCompanion()
	got := make(chan string, 10)
	var leftOut atomic.Int32
	c := newClientWith(t, s, owner, func(o *whatsapp.Options) {
		o.Count = func(e whatsapp.Event) {
			if e == whatsapp.LeftOut {
				leftOut.Add(1)
			}
		}
	}, func(_ *whatsapp.Client, m chat.Message) error {
		got <- m.Text
		return nil
	})
	for _, phone := range []*whatsapptest.Phone{owner, alice} {
		if _, err := phone.Say(ctx, owner.LID(), "hi"); err != nil {
			t.Fatal(err)
		}
		<-got
	}
	// There are sessions with both, and nothing crosses what is sent, which would have it sent again.
	settled := func() {
		t.Helper()
		for _, device := range s.Linked(owner.JID()) {
			if err := s.WaitSettled(ctx, device); err != nil {
				t.Fatal(err)
			}
		}
	}
	settled()
	to := alice.LID()
	answer := func(text string, leaves int32, devices ...*whatsapptest.Phone) {
		t.Helper()
		leftOut.Store(0)
		if err := c.Send(ctx, to.String(), chat.Part{ID: c.NewID(), Text: text}, nil); err != nil {
			t.Fatal(err)
		}
		in := to // as the devices see it
		if to == alice.LID() {
			in = owner.LID()
		}
		for _, device := range devices {
			heard, cancel := context.WithTimeout(ctx, 10*time.Second)
			if _, err := device.Hear(heard, in, text); err != nil {
				t.Error(err)
			}
			cancel()
		}
		if n := leftOut.Load(); n != leaves {
			t.Errorf("%s: %d sends left out a device, want %d", text, n, leaves)
		}
	}
	s.FailQueries(types.EmptyJID, "encrypt", 500, 4)
	answer("never given", 3, alice)
	answer("not waited for", 0, alice)
	answer("given", 0, alice, laptop)

	bob := s.NewPhone("bob")
	s.FailQueries(types.EmptyJID, "encrypt", 500, 3)
	part := chat.Part{ID: c.NewID(), Text: "to nobody"}
	if err := c.Send(ctx, bob.LID().String(), part, nil); err == nil {
		t.Error("a message that none of the receiver's devices got is said to be sent")
	}
	if err := c.Send(ctx, bob.LID().String(), part, nil); err != nil {
		t.Error(err)
	}
	if _, err := bob.Hear(ctx, owner.LID(), "to nobody"); err != nil {
		t.Error(err)
	}

	tablet := alice.AddCompanion()
	settled() // it is told of the tablet
	s.FailQueries(types.EmptyJID, "encrypt", 500, 1)
	answer("given at last", 1, alice, laptop, tablet)

	s.SetDevicesUntold(true)
	desktop := alice.AddCompanion()
	answer("to whom WhatsApp knows", 1, alice, laptop, tablet, desktop)

	to = owner.LID()
	answer("to oneself", 0, owner)
	var err error
	if to, err = alice.Group(ctx, "team", owner.LID(), bob.LID()); err != nil {
		t.Fatal(err)
	}
	answer("to a group", 0, alice, bob, owner)
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
