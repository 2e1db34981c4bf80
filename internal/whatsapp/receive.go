package whatsapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"wabot/internal/chat"
	"wabot/internal/device"
	"wabot/internal/mask"
)

const (
	// storing bounds the time a message may take to become durable, before it is refused.
	storing = 30 * time.Second
	// poison is how often a message may make us panic before it is set aside, indigestible how often a
	// store that works may refuse it.
	poison       = 3
	indigestible = 8
	// patience is how long a message that did not decrypt is awaited, confirming how long the delivery of one of ours, confirmed how long
	// while the account's phone is there, which gets it too; awaitedMost how many of either are at once.
	patience    = 5 * time.Minute
	confirming  = 24 * time.Hour
	confirmed   = 10 * time.Minute
	awaitedMost = 10_000
	// unavailableMost is how many messages that came without their text the account's phone is asked for again.
	unavailableMost = 100
)

// take is whatsmeow's only event handler. False means that the event was not taken: it is
// not acknowledged and comes again.
//
// Not so a message that did not decrypt, and what the account's phone gives of it: whatsmeow acknowledges those whatever we say. They
// are handled until they are taken, or the link ends: then nothing is acknowledged any more.
func (l *link) take(ctx context.Context, evt any) (taken bool) {
	_, again := evt.(*events.UndecryptableMessage)
	if msg, ok := evt.(*events.Message); ok {
		again = msg.UnavailableRequestID != ""
	}
	for wait := regain; ; wait = min(2*wait, storing) {
		if taken = l.handle(ctx, evt); taken || !again || sleep(ctx, wait) != nil {
			return taken
		}
	}
}

// handle handles an event, or refuses it where the link has ended.
func (l *link) handle(ctx context.Context, evt any) (taken bool) {
	if !l.handling.TryRLock() {
		return false
	}
	defer l.handling.RUnlock()
	defer func() {
		if p := recover(); p != nil {
			l.Log.Error("panic while taking an event; it is refused", "event", fmt.Sprintf("%T", evt), "panic", mask.Text(fmt.Sprint(p)), "stack", string(debug.Stack()))
			l.count(Panicked)
			msg, ok := evt.(*events.Message)
			taken = !ok || l.strike(ctx, msg, poison) // any other event is dropped
		}
	}()
	switch evt := evt.(type) {
	case *events.Message:
		if l.came(ctx, evt.Info.ID) {
			l.markOwn(ctx, evt.Info, chat.Recovered, "")
		}
		// What the phone gives lies in a message of the phone's, which is next: what could not be kept is that one's.
		if evt.UnavailableRequestID == "" && l.unkept.Swap(false) {
			tell(l.refused)
			return false // its text stays in the buffer, and what it brings is stored next time
		}
		return l.receive(ctx, evt) && l.kept(ctx, evt)
	case *events.QR, *events.PairSuccess, *events.PairError, *events.ManualLoginReconnect,
		*events.PairPasskeyRequest, *events.PairPasskeyConfirmation, *events.PairPasskeyError,
		*events.QRScannedWithoutMultidevice, *events.Connected, *events.Disconnected,
		*events.KeepAliveTimeout, *events.KeepAliveRestored, *events.StreamError, *events.ClientOutdated,
		*events.StreamReplaced, *events.TemporaryBan, *events.LoggedOut, *events.ConnectFailure:
		select {
		case l.events <- evt:
		case <-ctx.Done():
		}
	case *events.OfflineSyncPreview:
		l.Log.Debug("WhatsApp kept events for us while we were away", "messages", evt.Messages, "total", evt.Total)
	case *events.OfflineSyncCompleted:
		l.Log.Debug("events kept while we were away are in", "total", evt.Count)
	case *events.Receipt:
		if evt.IsFromMe && evt.Sender.Device == 0 {
			l.phoneSeen(ctx, evt.Timestamp)
		}
		l.delivered(evt)
		l.Log.Debug("receipt", "type", string(evt.Type), "chat", mask.JID(evt.Chat.String()), "ids", evt.MessageIDs)
		l.mark(l.receipts(evt)...)
	case *events.ChatPresence:
		l.composes(ctx, evt)
	case *events.MediaRetry:
		l.reuploaded(evt)
	case *events.UndecryptableMessage:
		if !l.await(ctx, evt) {
			return false
		}
		why := "its sender's phone was asked to send it again"
		if evt.IsUnavailable {
			l.count(Unavailable)
			why = "it came without its text, for which the account's phone was asked"
		} else {
			l.count(Undecryptable)
		}
		l.markOwn(ctx, evt.Info, chat.Undecrypted, why)
		l.Log.Warn("a message could not be decrypted; asked its sender to send it again",
			"id", evt.Info.ID, "chat", mask.JID(evt.Info.Chat.String()), "unavailable", evt.IsUnavailable)
	case *events.IdentityChange:
		l.Log.Info("a contact has a new phone or reinstalled WhatsApp", "contact", mask.JID(evt.JID.String()))
	case *events.NotifyAccountReachoutTimelock:
		l.limited(ctx, evt)
	case *events.AppStateSyncError:
		l.Log.Warn("app state did not sync; whatsmeow will fetch it whole", "collection", string(evt.Name), "err", mask.Text(evt.Error.Error()))
	case *events.PushNameSetting, *events.AppStateSyncComplete:
		l.phoneSeen(ctx, time.Now())
	}
	return true
}

// mark tells of marks, if there are any and anybody wants to know.
func (l *link) mark(marks ...chat.Mark) {
	if len(marks) > 0 && l.Marks != nil {
		l.Marks(marks)
	}
}

// markOwn marks a message that came in, where it may be for us.
func (l *link) markOwn(ctx context.Context, info types.MessageInfo, fate chat.Fate, why string) {
	wm, me := l.client()
	if unconcerning(info, me) != "" {
		return
	}
	// As far as the store knows them: the message, when it comes, has both addresses as well.
	_ = fill(ctx, wm.Store.LIDs, info.Sender, &info.SenderAlt)
	if info.IsFromMe {
		_ = fill(ctx, wm.Store.LIDs, info.Chat, &info.RecipientAlt)
	}
	var m chat.Message
	addressed(&m, info, me)
	l.mark(chat.Mark{Message: info.ID, Fate: fate, Chat: m.Chat, Who: m.Sender, Time: time.Now(), Why: why})
}

// receipts are what a receipt tells of messages of the bot. In the account's chat with itself it is the account's phone
// that has got or read them; elsewhere that tells nothing.
func (l *link) receipts(evt *events.Receipt) (marks []chat.Mark) {
	_, me := l.client()
	if evt.IsFromMe && !me.is(evt.Chat.ToNonAD()) {
		return nil
	}
	fate := chat.Read
	switch evt.Type {
	case types.ReceiptTypeDelivered, types.ReceiptTypeSender:
		fate = chat.Delivered
	case types.ReceiptTypeRead, types.ReceiptTypeReadSelf, types.ReceiptTypePlayed, types.ReceiptTypePlayedSelf:
	default:
		return nil
	}
	for _, id := range evt.MessageIDs {
		if l.sentByUs(id) {
			marks = append(marks, chat.Mark{Message: id, Fate: fate, Chat: evt.Chat.ToNonAD().String(), Who: evt.Sender.ToNonAD().String(), Time: evt.Timestamp})
		}
	}
	return marks
}

// receive hands a message on to be stored.
func (l *link) receive(ctx context.Context, evt *events.Message) bool {
	if evt.Info.IsFromMe && evt.Info.Sender.Device == 0 {
		l.phoneSeen(ctx, evt.Info.Timestamp)
	}
	wm, me := l.client()
	// The other address is not in every stanza; what the store knows by now is as good.
	err := fill(ctx, wm.Store.LIDs, evt.Info.Sender, &evt.Info.SenderAlt)
	if err == nil && evt.Info.IsFromMe {
		err = fill(ctx, wm.Store.LIDs, evt.Info.Chat, &evt.Info.RecipientAlt)
	}
	if err != nil {
		return l.refuse(ctx, evt, fmt.Errorf("look up the sender's other address: %w", err))
	}
	m, reason := messageFrom(evt, me)
	if reason != "" {
		l.Log.Debug("not a message to answer", "id", evt.Info.ID, "chat", mask.JID(evt.Info.Chat.String()), "why", reason)
		return true
	}
	if err := fillAuthor(ctx, wm.Store.LIDs, m.Change); err != nil {
		return l.refuse(ctx, evt, fmt.Errorf("look up the author's other address: %w", err))
	}
	storeCtx, cancel := context.WithTimeout(device.Defer(ctx), storing)
	defer cancel()
	if err := l.Receive(storeCtx, m); err != nil {
		return l.refuse(ctx, evt, err)
	}
	l.mu.Lock()
	delete(l.strikes, m.ID)
	l.mu.Unlock()
	tell(l.stored)
	return true
}

// kept reports whether all that a message has led to is there to stay; otherwise the message is refused.
func (l *link) kept(ctx context.Context, evt *events.Message) bool {
	err := l.Sync(ctx)
	return err == nil || l.refuse(ctx, evt, err)
}

// fill looks up the other address of a person where the stanza did not give it. Without it someone who is
// allowed under that address would be a stranger.
func fill(ctx context.Context, lids store.LIDStore, known types.JID, alt *types.JID) (err error) {
	switch {
	case !alt.IsEmpty():
	case known.Server == types.DefaultUserServer:
		*alt, err = lids.GetLIDForPN(ctx, known)
	case known.Server == types.HiddenUserServer:
		*alt, err = lids.GetPNForLID(ctx, known)
	}
	return err
}

// fillAuthor looks up the other address of whom a group's admin names as the author of what they revoke: in a group addressed by
// numbers that is the number.
func fillAuthor(ctx context.Context, lids store.LIDStore, c *chat.Change) error {
	if c == nil || c.Author == "" {
		return nil
	}
	author, err := types.ParseJID(c.Author)
	if err != nil {
		return err
	}
	var alt types.JID
	if err := fill(ctx, lids, author, &alt); err != nil {
		return err
	}
	c.Author, c.AuthorAlt = address(author, alt)
	return nil
}

// refuse leaves a message with WhatsApp because of err, unless the store works and it is the message that
// cannot be stored, again and again.
func (l *link) refuse(ctx context.Context, evt *events.Message, err error) (taken bool) {
	l.count(NotStored)
	l.Log.Warn("message not stored, so not acknowledged: WhatsApp will deliver it again", "id", evt.Info.ID, "err", err)
	if ctx.Err() != nil || l.storeWorks(ctx) != nil {
		tell(l.refused)
		return false
	}
	return l.strike(ctx, evt, indigestible)
}

// unavailable is a message that came without its text. whatsmeow acknowledges it also where it could not ask the account's phone for it.
type unavailable struct {
	Chat, Sender types.JID
	asked        time.Duration // how old it was when we asked the phone ourselves last; zero: we have not
}

// await notes that a message did not decrypt, and reports whether that is there to stay.
func (l *link) await(ctx context.Context, evt *events.UndecryptableMessage) bool {
	_, me := l.client()
	l.mu.Lock()
	room := len(l.awaited) < awaitedMost
	if room {
		l.awaited[evt.Info.ID] = time.Now()
	}
	ask := room && evt.IsUnavailable && unconcerning(evt.Info, me) == "" && len(l.unavailable) < unavailableMost
	if ask {
		l.unavailable[evt.Info.ID] = unavailable{Chat: evt.Info.Chat, Sender: evt.Info.Sender}
	}
	l.mu.Unlock()
	return !ask || l.noteUnavailable(ctx)
}

// came reports whether a message was awaited, which it is no more.
func (l *link) came(ctx context.Context, id string) bool {
	l.mu.Lock()
	_, awaited := l.awaited[id]
	_, noted := l.unavailable[id]
	delete(l.awaited, id)
	delete(l.unavailable, id)
	l.mu.Unlock()
	if noted {
		l.noteUnavailable(ctx) // or the phone is asked in vain
	}
	return awaited
}

// vanished says which of the messages that did not decrypt have not come again at now.
func (l *link) vanished(ctx context.Context, now time.Time) {
	l.mu.Lock()
	var gone []string
	for id, since := range l.awaited {
		if u, ask := l.unavailable[id]; now.Sub(since) > patience && (!ask || u.asked > 0) {
			gone = append(gone, id)
		}
	}
	l.mu.Unlock()
	for _, id := range gone {
		if !l.came(ctx, id) {
			continue // just now
		}
		l.count(Vanished)
		l.Log.Error("a message that did not decrypt has not come again: it is not answered; its sender's phone, or the account's, may be off", "id", id)
	}
}

// noteUnavailable notes for the next start which messages came without their text, and reports whether it could.
func (c *Client) noteUnavailable(ctx context.Context) bool {
	c.noting.Lock()
	defer c.noting.Unlock()
	c.mu.Lock()
	raw, err := json.Marshal(c.unavailable)
	c.mu.Unlock()
	if err == nil {
		err = c.Notes.SetNote(context.WithoutCancel(ctx), noteAwaited, raw)
	}
	if err != nil {
		c.Log.Warn("note which messages came without their text", "err", err)
	}
	return err == nil
}

// recall awaits what an earlier process has awaited, and has the phone asked at once.
func (c *Client) recall(ctx context.Context) error {
	noted := map[string]unavailable{}
	_, err := c.note(ctx, noteAwaited, &noted)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unavailable = noted
	for id := range noted {
		c.awaited[id] = time.Now().Add(-watch)
	}
	return err
}

// askAgain asks the account's phone, as long as the link lasts, for the messages that came without their text.
func (l *link) askAgain(ctx context.Context) {
	for l.WaitOnline(ctx) == nil {
		for id, u := range l.due(time.Now()) {
			_, err := l.wm.SendPeerMessage(device.Send(ctx), l.wm.BuildUnavailableMessageRequest(u.Chat, u.Sender, id))
			if err != nil {
				l.Log.Info("ask the account's phone for a message that came without its text", "id", id, "err", mask.Text(err.Error()))
				continue
			}
			l.mu.Lock()
			if _, ok := l.unavailable[id]; ok {
				l.unavailable[id] = u
			}
			l.mu.Unlock()
		}
		if sleep(ctx, watch) != nil {
			return
		}
	}
}

// due are the messages that the phone is to be asked for at now, as they are once it was: first when they are as old as watch, and then
// each time that their age has doubled.
func (l *link) due(now time.Time) map[string]unavailable {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := map[string]unavailable{}
	for id, u := range l.unavailable {
		if age := now.Sub(l.awaited[id]); age >= max(watch, 2*u.asked) {
			u.asked = age
			due[id] = u
		}
	}
	return due
}

// limited takes note of whether WhatsApp lets the account start new chats.
func (l *link) limited(ctx context.Context, evt *events.NotifyAccountReachoutTimelock) {
	now := time.Now()
	var until time.Time
	if evt.IsActive {
		if until = evt.TimeEnforcementEnds.Time; !until.After(now) {
			until = now.Add(limitedFor)
		}
		l.Log.Error("WhatsApp limits this account: it cannot start new chats now; answers in known chats go on", "until", until)
	}
	l.setNote(ctx, noteLimited, until)
	l.set(func(s *State) {
		s.Limited = until
		s.refresh(now)
	})
}

// sent is a message of ours that no device has confirmed.
type sent struct {
	since  time.Time // when we first sent it
	taken  bool      // by WhatsApp's server
	seen   time.Time // when the account's phone gave its first sign after that, zero if it did not
	missed bool      // it was counted
}

// sending notes that a message of ours is about to be sent, for the first time or again.
func (c *Client) sending(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.undelivered[id] == nil && len(c.undelivered) < awaitedMost {
		c.undelivered[id] = &sent{since: time.Now()}
	}
}

// sentAs notes what became of sending a message: it was taken, or refused for good.
func (c *Client) sentAs(id string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.undelivered[id]
	switch {
	case m == nil:
	case err == nil:
		m.taken = true
	case errors.As(err, new(*RefusedError)):
		delete(c.undelivered, id)
	}
}

// delivered takes note of a receipt. Every kind but the request to send again tells that a device has the message.
func (c *Client) delivered(r *events.Receipt) {
	if r.Type == types.ReceiptTypeRetry || r.Type == types.ReceiptTypeServerError {
		return
	}
	for _, id := range r.MessageIDs {
		c.mu.Lock()
		m := c.undelivered[id]
		delete(c.undelivered, id)
		c.mu.Unlock()
		if m != nil && c.Delivered != nil {
			c.Delivered(time.Since(m.since))
		}
	}
}

// unconfirmed says, at most once an hour, that messages of ours do not arrive: at now no device has them, though the account's phone was
// there, or for as long as their delivery is awaited.
func (l *link) unconfirmed(now time.Time) {
	l.mu.Lock()
	missed := 0
	maps.DeleteFunc(l.undelivered, func(_ string, m *sent) bool {
		old := now.Sub(m.since) > confirming
		if !m.missed && (old || !m.seen.IsZero() && now.Sub(m.seen) > confirmed) {
			m.missed = true
			missed++
		}
		return old
	})
	l.mu.Unlock()
	for range missed {
		l.count(Undelivered)
	}
	if missed > 0 && now.Sub(l.doubted) > time.Hour {
		l.doubted = now
		l.Log.Warn("messages of ours have not reached any device, not the account's phone either: look there whether they show; link the bot anew if they never do", "messages", missed)
	}
}

// strike decides on a message that failed through its own fault: it is refused, so that it comes again,
// until that has happened as often as most says; then it is set aside where the operator can find it.
func (l *link) strike(ctx context.Context, msg *events.Message, most int) (taken bool) {
	l.mu.Lock()
	l.strikes[msg.Info.ID]++
	n := l.strikes[msg.Info.ID]
	l.mu.Unlock()
	if n < most {
		tell(l.refused)
		return false
	}
	raw, err := proto.Marshal(msg.RawMessage)
	if err == nil {
		err = l.Notes.SetNote(ctx, noteDead+msg.Info.ID, raw)
	}
	if err != nil {
		l.Log.Error("set aside a message that cannot be taken", "id", msg.Info.ID, "err", err)
		tell(l.refused)
		return false
	}
	l.count(SetAside)
	l.Log.Error("a message cannot be taken, each time it comes; it is set aside and will not be answered: please report it", "id", msg.Info.ID)
	l.mu.Lock()
	delete(l.strikes, msg.Info.ID)
	l.mu.Unlock()
	return true
}
