package whatsapp

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"wabot/internal/mask"
)

const (
	// storing bounds the time a message may take to become durable, before it is refused.
	storing = 30 * time.Second
	// regain is the pause between a refused message and the reconnect that brings it again.
	regain = 2 * time.Second
	// poison is how often a message may make us panic before it is set aside.
	poison = 3
)

// handle is whatsmeow's only event handler. False means that the event was not taken: it is
// not acknowledged and comes again.
func (l *link) handle(ctx context.Context, evt any) (taken bool) {
	l.handlers.Add(1)
	defer l.handlers.Done()
	defer func() {
		if p := recover(); p != nil {
			l.Log.Error("panic while taking an event; it is refused", "event", fmt.Sprintf("%T", evt), "panic", mask.Text(fmt.Sprint(p)), "stack", string(debug.Stack()))
			l.count(Panicked)
			taken = l.panicked(ctx, evt)
		}
	}()
	switch evt := evt.(type) {
	case *events.Message:
		return l.receive(ctx, evt)
	case *events.QR, *events.PairSuccess, *events.PairError, *events.ManualLoginReconnect,
		*events.PairPasskeyRequest, *events.PairPasskeyConfirmation, *events.PairPasskeyError,
		*events.QRScannedWithoutMultidevice, *events.Connected, *events.Disconnected,
		*events.KeepAliveTimeout, *events.StreamError, *events.ClientOutdated,
		*events.StreamReplaced, *events.TemporaryBan, *events.LoggedOut, *events.ConnectFailure:
		select {
		case l.events <- evt:
		case <-l.done:
		}
	case *events.KeepAliveRestored:
		l.Log.Info("WhatsApp answers pings again")
	case *events.OfflineSyncPreview:
		l.Log.Debug("WhatsApp kept events for us while we were away", "messages", evt.Messages, "total", evt.Total)
	case *events.OfflineSyncCompleted:
		l.Log.Debug("events kept while we were away are in", "total", evt.Count)
	case *events.Receipt:
		if evt.IsFromMe && evt.Sender.Device == 0 {
			l.phoneSeen(ctx, evt.Timestamp)
		}
		l.Log.Debug("receipt", "type", string(evt.Type), "chat", mask.JID(evt.Chat.String()), "ids", evt.MessageIDs)
	case *events.UndecryptableMessage:
		if evt.IsUnavailable {
			l.count(Unavailable)
		} else {
			l.count(Undecryptable)
		}
		l.Log.Warn("a message could not be decrypted; asked its sender to send it again",
			"id", evt.Info.ID, "chat", mask.JID(evt.Info.Chat.String()), "unavailable", evt.IsUnavailable)
	case *events.IdentityChange:
		l.Log.Info("a contact has a new phone or reinstalled WhatsApp", "contact", mask.JID(evt.JID.String()))
	case *events.NotifyAccountReachoutTimelock:
		if evt.IsActive {
			l.Log.Error("WhatsApp limits this account: it cannot start new chats now; answers in known chats go on", "until", evt.TimeEnforcementEnds.Time)
		}
	case *events.AppStateSyncError:
		l.Log.Warn("app state did not sync; whatsmeow will fetch it whole", "collection", string(evt.Name), "err", mask.Text(evt.Error.Error()))
	case *events.PushNameSetting, *events.AppStateSyncComplete:
		l.phoneSeen(ctx, time.Now())
	}
	return true
}

// receive hands a message on to be stored.
func (l *link) receive(ctx context.Context, evt *events.Message) bool {
	if evt.Info.IsFromMe && evt.Info.Sender.Device == 0 {
		l.phoneSeen(ctx, evt.Info.Timestamp)
	}
	wm, me := l.client()
	// The other address is not in every stanza; what the store knows by now is as good.
	fill(ctx, wm.Store.LIDs.GetLIDForPN, wm.Store.LIDs.GetPNForLID, evt.Info.Sender, &evt.Info.SenderAlt)
	if evt.Info.IsFromMe {
		fill(ctx, wm.Store.LIDs.GetLIDForPN, wm.Store.LIDs.GetPNForLID, evt.Info.Chat, &evt.Info.RecipientAlt)
	}
	m, reason := messageFrom(evt, me)
	if reason != "" {
		l.Log.Debug("not a message to answer", "id", evt.Info.ID, "chat", mask.JID(evt.Info.Chat.String()), "why", reason)
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, storing)
	defer cancel()
	if err := l.Receive(ctx, m); err != nil {
		l.count(NotStored)
		l.Log.Warn("message not stored, so not acknowledged: WhatsApp will deliver it again", "id", m.ID, "err", err)
		l.refuse()
		return false
	}
	return true
}

// fill looks up the other address of a person where the stanza did not give it.
func fill(ctx context.Context, lid, pn func(context.Context, types.JID) (types.JID, error), known types.JID, alt *types.JID) {
	if !alt.IsEmpty() {
		return
	}
	lookup := lid
	switch known.Server {
	case types.DefaultUserServer:
	case types.HiddenUserServer:
		lookup = pn
	default:
		return
	}
	// An error leaves the address unknown, which the next message mends.
	*alt, _ = lookup(ctx, known)
}

// refuse asks for a reconnect after a pause, one at a time.
func (l *link) refuse() {
	time.AfterFunc(regain, func() {
		select {
		case l.refused <- struct{}{}:
		default:
		}
	})
}

// panicked decides on an event that made us panic: a message is refused, so that it comes
// again, until that has happened too often; then it is set aside where the operator can find
// it. Any other event is dropped.
func (l *link) panicked(ctx context.Context, evt any) (taken bool) {
	msg, ok := evt.(*events.Message)
	if !ok {
		return true
	}
	l.mu.Lock()
	l.panics[msg.Info.ID]++
	n := l.panics[msg.Info.ID]
	l.mu.Unlock()
	if n < poison {
		l.refuse()
		return false
	}
	raw, err := proto.Marshal(msg.RawMessage)
	if err == nil {
		err = l.Notes.SetNote(ctx, noteDead+msg.Info.ID, raw)
	}
	if err != nil {
		l.Log.Error("set aside a message that makes us panic", "id", msg.Info.ID, "err", err)
		return false
	}
	l.count(SetAside)
	l.Log.Error("a message makes us panic each time; it is set aside and will not be answered: please report it", "id", msg.Info.ID)
	l.mu.Lock()
	delete(l.panics, msg.Info.ID)
	l.mu.Unlock()
	return true
}
