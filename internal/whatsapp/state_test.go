package whatsapp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/util/jsontime"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"wabot/internal/chat"
)

// notes are notes in memory, which fail with broken.
type notes struct {
	kept   map[string][]byte
	broken error
}

func (n *notes) Note(_ context.Context, key string) ([]byte, error) { return n.kept[key], n.broken }

func (n *notes) SetNote(_ context.Context, key string, value []byte) error {
	if n.broken == nil {
		n.kept[key] = value
	}
	return n.broken
}

func newLink(version string, n *notes) *link {
	c := New(Options{Notes: n, Show: func(State) {}, Version: version, Log: slog.New(slog.DiscardHandler)})
	return &link{Client: c, paired: true, redial: stopped()}
}

// Changes of the state that come at once are shown in their order: what is shown last is how it is.
func TestStatesAreShownInOrder(t *testing.T) {
	t.Parallel()
	l := newLink("1", &notes{kept: map[string][]byte{}})
	begun, goOn := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var shown []string
	l.Show = func(s State) {
		if s.Reason == "broken" {
			close(begun)
			<-goOn
		}
		mu.Lock()
		defer mu.Unlock()
		shown = append(shown, s.Reason)
	}
	var changes sync.WaitGroup
	set := func(reason string) { l.set(func(s *State) { s.Reason = reason }) }
	changes.Go(func() { set("broken") })
	<-begun
	changes.Go(func() { set("away") })
	time.Sleep(10 * time.Millisecond) // so that one that does not wait is first
	close(goOn)
	changes.Wait()
	if want := []string{"broken", "away"}; !slices.Equal(shown, want) {
		t.Errorf("shown %q, want %q", shown, want)
	}
}

// Two copies that replace each other log in each time: the count of a day goes on, and the next start
// waits longer each time.
func TestReplacementsOfADayCountTogether(t *testing.T) {
	t.Parallel()
	n := &notes{kept: map[string][]byte{}}
	l := newLink("1", n)
	at := time.Now()
	var last time.Duration
	for i := range 4 {
		l.end(t.Context(), EndError{End: Replaced, At: at})
		end, wait, err := l.ended(t.Context(), at)
		if end != nil || err != nil || i == 0 && wait != 0 || i > 0 && wait <= last {
			t.Errorf("replacement %d: end %v, wait %v after %v, err %v", i+1, end, wait, last, err)
		}
		last = wait
		l.clearEnd(t.Context()) // a login
	}
	l.end(t.Context(), EndError{End: Replaced, At: at.Add(25 * time.Hour)})
	if _, wait, _ := l.ended(t.Context(), at.Add(25*time.Hour)); wait != 0 {
		t.Errorf("a replacement a day later waits %v", wait)
	}
}

func TestOutdatedEndsWithTheNextBuild(t *testing.T) {
	t.Parallel()
	n := &notes{kept: map[string][]byte{}}
	now := time.Now()
	old := newLink("1", n)
	old.end(t.Context(), EndError{End: Outdated, At: now})
	if end, _, err := old.ended(t.Context(), now.Add(time.Minute)); end == nil || err != nil {
		t.Errorf("the same build may connect at once: %v, %v", end, err)
	}
	if end, _, err := newLink("2", n).ended(t.Context(), now.Add(time.Minute)); end != nil || err != nil {
		t.Errorf("the next build may not connect: %v, %v", end, err)
	}
	old.end(t.Context(), EndError{End: Locked, At: now})
	if end, _, err := old.ended(t.Context(), now.Add(time.Second)); end != nil || err != nil {
		t.Errorf("after a lock the start is refused, against its own advice: %v, %v", end, err)
	}
}

// While the next connect is due at a time, nothing else may change that.
func TestWaitingIsLeftAlone(t *testing.T) {
	t.Parallel()
	l := newLink("1", &notes{kept: map[string][]byte{}})
	l.follow(t.Context(), &events.ConnectFailure{Reason: 418})
	waiting := l.State()
	if waiting.Phase != Waiting {
		t.Fatalf("phase %s after an unknown refusal", waiting.Phase)
	}
	l.follow(t.Context(), &events.Disconnected{})
	l.down = time.Now().Add(-time.Hour)
	l.look(t.Context()) // would dial a client that is not there
	if l.State() != waiting {
		t.Errorf("state %+v, want %+v", l.State(), waiting)
	}
}

// A connection that does not answer pings is not shown as one, though nobody has closed it.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	l := newLink("1", &notes{kept: map[string][]byte{}})
	l.set(func(s *State) { s.Phase = Online })
	l.follow(t.Context(), &events.KeepAliveTimeout{ErrorCount: 1, LastSuccess: time.Now().Add(-deaf / 2)})
	if s := l.State(); s.Phase != Connecting || s.Reason == "" || s.Next == "" {
		t.Errorf("state %+v after a ping without an answer", s)
	}
	if l.heard(t.Context()); l.silent {
		t.Error("silent still, though a message has come in")
	}
}

// A message that a working store refuses each time is set aside at last; one that meets a store which
// fails never is.
func TestIndigestibleMessageIsSetAside(t *testing.T) {
	t.Parallel()
	n := &notes{kept: map[string][]byte{}}
	l := newLink("1", n)
	evt := event(fromAlice, text("hi"))
	n.broken = errors.New("database gone")
	for range 3 * indigestible {
		if l.refuse(t.Context(), evt, n.broken) {
			t.Fatal("taken while the store fails")
		}
	}
	n.broken = nil
	for i := range indigestible {
		if taken := l.refuse(t.Context(), evt, errors.New("too large")); taken != (i == indigestible-1) {
			t.Fatalf("refusal %d: taken %v", i+1, taken)
		}
	}
	if len(n.kept[noteDead+evt.Info.ID]) == 0 {
		t.Errorf("nothing was set aside: %v", n.kept)
	}
}

func TestLogHasNoNames(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := logger{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), nil, nil}
	l.Debugf("Push name of %s changed from %s to %s, dispatching event", alicePN, "Alice", "Alicia")
	l.Debugf("Business name of %s changed from %s to %s, dispatching event", alicePN, "Alice", "Alicia")
	l.Debugf("Errored frame hex: %s", "616c696365")
	l.Debugf("Doing %s", "well")
	l.Errorf("Failed to fetch: %v", fmt.Errorf("fetch: %w", whatsmeow.ErrIQDisconnected))
	l.Errorf("Failed to parse: %v", errors.New("bad"))
	if s := out.String(); strings.Count(s, "level=WARN") != 1 || !strings.Contains(s, "Failed to parse") {
		t.Errorf("logged %q, want one warning", s)
	}
	if s := out.String(); strings.Contains(s, "Ali") || strings.Contains(s, "616c") || !strings.Contains(s, "Doing well") {
		t.Errorf("logged %q", s)
	}
}

func TestMessageThatNeverDecryptsIsSaid(t *testing.T) {
	t.Parallel()
	l := newLink("1", &notes{kept: map[string][]byte{}})
	counted := map[Event]int{}
	l.Count = func(e Event) { counted[e]++ }
	l.Receive = func(context.Context, chat.Message) error { return nil }
	l.use(t.Context(), &store.Device{})
	var marks []string
	l.Marks = func(all []chat.Mark) {
		for _, m := range all {
			marks = append(marks, fmt.Sprintf("%s %s %t", m.Message, m.Fate, m.Who != "" && m.Chat != "" && !m.Time.IsZero()))
		}
	}
	healed := event(fromAlice, text("hi"))
	info := healed.Info
	for _, id := range []string{"HEALED", "GONE"} {
		info.ID = id
		l.handle(t.Context(), &events.UndecryptableMessage{Info: info})
	}
	status := info
	status.ID, status.Chat = "STATUS", types.StatusBroadcastJID
	l.handle(t.Context(), &events.UndecryptableMessage{Info: status})
	healed.Info.ID = "HEALED"
	for range 2 {
		l.handle(t.Context(), healed)
	}
	if want := []string{"HEALED undecrypted true", "GONE undecrypted true", "HEALED recovered true"}; !slices.Equal(marks, want) {
		t.Errorf("marked %q, want %q", marks, want)
	}
	l.vanished(t.Context(), time.Now().Add(patience/2))
	if counted[Vanished] != 0 {
		t.Errorf("%d are gone before the time", counted[Vanished])
	}
	for range 2 {
		l.vanished(t.Context(), time.Now().Add(2*patience))
	}
	if counted[Vanished] != 2 || counted[Undecryptable] != 3 {
		t.Errorf("counted %v, want 3 undecryptable and 2 vanished", counted)
	}
}

// That messages of ours do not arrive is counted once each, and said once an hour: those that the account's phone, which gets them too, does
// not confirm while it is there, and those that nobody has confirmed for a day. A phone that is away, and people who are, are no trouble.
func TestMessageThatDoesNotArriveIsSaid(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newLink("1", &notes{kept: map[string][]byte{}})
	l.Log = slog.New(slog.NewTextHandler(&out, nil))
	counted, delivered := 0, 0
	l.Count = func(e Event) {
		if e == Undelivered {
			counted++
		}
	}
	l.Delivered = func(time.Duration) { delivered++ }
	send := func(id string, err error) {
		l.sending(id)
		l.sentAs(id, err)
	}
	now := time.Now()
	is := func(later time.Duration, missed, said int) {
		t.Helper()
		l.unconfirmed(now.Add(later))
		if n := strings.Count(out.String(), "have not reached any device"); counted != missed || n != said {
			t.Errorf("after %v: %d counted and %d said, want %d and %d", later, counted, n, missed, said)
		}
	}
	send("AWAY", nil)
	send("CONFIRMED", nil)
	send("REFUSED", &RefusedError{Code: 463})
	send("OPEN", errSend)
	is(2*confirmed, 0, 0)

	phone := types.MessageSource{Chat: alicePN, Sender: ownPN, IsFromMe: true}
	receiptOf := func(at time.Time, kind types.ReceiptType, ids ...string) {
		l.handle(t.Context(), &events.Receipt{MessageSource: phone, Type: kind, MessageIDs: ids, Timestamp: at})
	}
	receipt := func(kind types.ReceiptType, ids ...string) { receiptOf(time.Now(), kind, ids...) }
	receiptOf(now.Add(-3*time.Hour), types.ReceiptTypeReadSelf, "OTHERS") // WhatsApp has kept it
	is(2*confirmed, 0, 0)
	receipt(types.ReceiptTypeSender, "CONFIRMED")
	send("LATER", nil) // of which the phone may not have heard
	is(confirmed/2, 0, 0)
	is(2*confirmed, 1, 1)
	receipt(types.ReceiptTypeReadSelf, "OTHERS")
	is(2*confirmed, 2, 1)
	is(2*time.Hour, 2, 1)
	receipt(types.ReceiptTypeSender, "LATER")
	if delivered != 2 {
		t.Errorf("%d were delivered, want 2", delivered)
	}
	is(confirming+time.Minute, 3, 2)
	if len(l.undelivered) > 0 {
		t.Errorf("awaited still: %v", l.undelivered)
	}
}

// That WhatsApp does not let the account start new chats is said with the state while it lasts, over connections and restarts.
func TestLimitIsPartOfTheState(t *testing.T) {
	t.Parallel()
	n := &notes{kept: map[string][]byte{}}
	l := newLink("1", n)
	now := time.Now()
	is := func(l *link, at time.Time, limited bool) {
		t.Helper()
		l.set(func(s *State) {
			s.Phase = Online
			s.refresh(at)
		})
		if s := l.State(); (s.Reason != "") != limited || (s.Next != "") != limited {
			t.Errorf("limited is %v, the state %+v", limited, s)
		}
	}
	is(l, now, false)
	for _, row := range []struct {
		ends  time.Time
		lasts time.Duration
	}{{now.Add(time.Hour), time.Hour}, {time.Time{}, limitedFor}} {
		l.handle(t.Context(), &events.NotifyAccountReachoutTimelock{IsActive: true, TimeEnforcementEnds: jsontime.UnixString{Time: row.ends}})
		if s := l.State(); s.Reason == "" {
			t.Errorf("state %+v of an account that is limited", s)
		}
		is(l, now.Add(row.lasts-time.Minute), true)
		is(l, now.Add(row.lasts+time.Minute), false)
		l.follow(t.Context(), &events.Disconnected{})
		is(l, now, true)
		next := newLink("1", n)
		if err := next.remember(t.Context()); err != nil {
			t.Fatal(err)
		}
		is(next, now, true)
	}
	l.handle(t.Context(), &events.NotifyAccountReachoutTimelock{})
	if s := l.State(); s.Reason != "" || s.Next != "" {
		t.Errorf("state %+v after the end of the limit", s)
	}
	is(l, now, false)
}

// The account's phone is asked for a message that came without its text until it comes, or has been asked and our patience has ended; who
// starts next knows of it meanwhile.
func TestWhenThePhoneIsAskedAgain(t *testing.T) {
	t.Parallel()
	n := &notes{kept: map[string][]byte{}}
	l := newLink("1", n)
	l.use(t.Context(), &store.Device{})
	info := event(fromAlice, text("hi")).Info
	info.ID = "TEXTLESS"
	n.broken = errors.New("no space left on device")
	if l.handle(t.Context(), &events.UndecryptableMessage{Info: info, IsUnavailable: true}) {
		t.Error("taken, but not noted")
	}
	n.broken = nil
	if !l.handle(t.Context(), &events.UndecryptableMessage{Info: info, IsUnavailable: true}) {
		t.Error("refused")
	}
	status := info
	status.ID, status.Chat = "STATUS", types.StatusBroadcastJID
	for _, other := range []*events.UndecryptableMessage{{Info: status, IsUnavailable: true}, {Info: event(fromAlice, text("hi")).Info}} {
		if !l.handle(t.Context(), other) {
			t.Error("refused")
		}
	}

	begin := time.Now()
	l.vanished(t.Context(), begin.Add(2*patience)) // the phone was not asked yet
	var ages []int
	for age := time.Duration(0); age < patience; age += watch {
		for id, u := range l.due(begin.Add(age + time.Second)) {
			ages = append(ages, int(age.Seconds()))
			l.unavailable[id] = u
		}
	}
	if want := []int{10, 30, 70, 150}; !slices.Equal(ages, want) {
		t.Errorf("asked at %v s, want %v", ages, want)
	}

	next := newLink("1", n)
	if err := next.recall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if due := next.due(time.Now()); len(due) != 1 || due["TEXTLESS"].Chat != info.Chat || due["TEXTLESS"].Sender != info.Sender {
		t.Errorf("asked after a restart: %v", due)
	}
	l.vanished(t.Context(), begin.Add(2*patience))
	if err := next.recall(t.Context()); err != nil || len(next.due(time.Now())) > 0 {
		t.Errorf("asked for ever: %v, %v", next.unavailable, err)
	}
}

// A failure to keep what a message brings is not the fault of what the phone gives within that message.
func TestWhatAMessageOfThePhoneBringsIsKept(t *testing.T) {
	t.Parallel()
	l := newLink("1", &notes{kept: map[string][]byte{}})
	l.Receive = func(context.Context, chat.Message) error { return nil }
	l.Sync = func(context.Context) error { return nil }
	l.use(t.Context(), &store.Device{})
	l.unkept.Store(true)
	given := event(fromAlice, text("hi"))
	given.UnavailableRequestID = "REQUEST"
	if !l.handle(t.Context(), given) {
		t.Error("what the phone gives is refused")
	}
	if l.handle(t.Context(), event(fromAlice, text("hi"))) {
		t.Error("the phone's message is not")
	}
}

// WhatsApp counts as out of reach from the first failure on, for a device that is linked, and not where it refuses.
func TestWaitCut(t *testing.T) {
	t.Parallel()
	failure := &events.ConnectFailure{Reason: 499}
	for _, row := range []struct {
		name   string
		linked bool
		then   func(*link)
		cut    bool
	}{
		{name: "broken", linked: true, then: func(*link) {}, cut: true},
		{name: "and cannot be dialled", linked: true, then: func(l *link) { l.again() }, cut: true},
		{name: "online again", linked: true, then: func(l *link) { l.set(func(s *State) { s.Phase = Online }) }},
		{name: "refused", linked: true, then: func(l *link) { _ = l.follow(t.Context(), failure) }},
		{name: "ended", linked: true, then: func(l *link) { l.set(func(s *State) { s.Phase = Ended }) }},
		{name: "not linked", then: func(l *link) { l.again() }},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLink("1", &notes{kept: map[string][]byte{}})
			l.set(func(s *State) { s.linked = row.linked })
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := l.follow(ctx, &events.Disconnected{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			row.then(l)
			err := l.WaitCut(ctx, 7*time.Second)
			if took := time.Since(begun); (err == nil) != row.cut || row.cut && took != 7*time.Second {
				t.Errorf("%s: %v after %v, want it cut: %t", row.name, err, took, row.cut)
			}
		})
	}
}
