package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"wabot/internal/whatsapptest"
)

// person PERSON ACT ...: what a person does with messages that are there, in the chat with the bot or, with "in GROUP"
// at the end, in a group. A message is named by its text.
//
//	quotes TEXT SAYING: replies to the newest message with that text
//	sends WRAP TEXT: WRAP is image, ephemeral, view-once or forwarded | attaches KIND WHAT [CAPTION]: see there
//	edits TEXT NEW | revokes TEXT: of the person's own | deletes TEXT: of another's, as the group's admin
//	sees-edit TEXT: a message of the bot shows that text by an edit
//	sees-reaction TEXT EMOJI: the person's message has that reaction, or with '' none
//	sees-delivered TEXT: the bot's device has taken the person's message
//	types SAYING | stops-typing: says it, and goes on typing as soon as that is of interest to the bot
//	sees-online | sees-away: the account comes to be shown as available, or not any more
//	hears-late DURATION TEXT: hears it, but not earlier than so long after what was last said with "types"
//	sees-revoked N: so many messages of others are shown as revoked
func person(ctx context.Context, w *world, args []string) error {
	p, chat, act, args := w.phone(args[0]), w.with(args[0]), args[1], args[2:]
	if n := len(args); n >= 2 && args[n-2] == "in" {
		chat, args = w.groups[args[n-1]], args[:n-2]
	}
	picture := &whatsapptest.Media{Data: []byte("a picture"), Mime: "image/jpeg"}
	switch act {
	case "quotes":
		m, err := messageOf(ctx, p, chat, args[0], func(whatsapptest.Received) bool { return true })
		if err == nil {
			_, err = p.Send(ctx, chat, whatsapptest.Draft{Text: args[1], Quote: &m})
		}
		return err
	case "sends":
		d := whatsapptest.Draft{Text: args[1]}
		switch args[0] {
		case "image":
			d.Image = picture
		case "forwarded":
			d.Forwarded = true
		case "ephemeral":
			d.Ephemeral = true
		case "view-once":
			d.Image, d.ViewOnce = picture, true
		}
		_, err := p.Send(ctx, chat, d)
		return err
	case "attaches":
		return attaches(ctx, w, p, chat, args)
	case "edits":
		m, err := messageOf(ctx, p, chat, args[0], ownWords)
		if err == nil {
			err = p.Edit(ctx, chat, m.ID, args[1])
		}
		return err
	case "revokes":
		m, err := messageOf(ctx, p, chat, args[0], ownWords)
		if err == nil {
			err = p.Revoke(ctx, chat, m.ID)
		}
		return err
	case "deletes":
		m, err := messageOf(ctx, p, chat, args[0], func(m whatsapptest.Received) bool { return !ownWords(m) })
		if err == nil {
			err = p.RevokeAsAdmin(ctx, chat, m)
		}
		return err
	case "sees-edit":
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool {
			return slices.ContainsFunc(p.Messages(chat), func(m whatsapptest.Received) bool {
				return !ownWords(m) && m.Text == args[0] && slices.Contains(m.Edits, args[0])
			})
		})
	case "sees-reaction":
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool {
			return slices.ContainsFunc(p.Messages(chat), func(m whatsapptest.Received) bool {
				return ownWords(m) && m.Text == args[0] && m.Reactions[w.owner.LID()] == args[1]
			})
		})
	case "sees-delivered":
		m, err := messageOf(ctx, p, chat, args[0], ownWords)
		if err != nil {
			return err
		}
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool {
			return slices.ContainsFunc(p.ReceiptsOf(m.ID), func(r whatsapptest.Receipt) bool { return r.By.Device == w.device.Device })
		})
	case "types":
		w.typed = time.Now()
		if _, err := p.Say(ctx, chat, args[0]); err != nil {
			return err
		}
		if err := w.whatsapp.WaitAttentive(ctx, w.device, p.LID(), chat.Server == types.GroupServer); err != nil {
			return err
		}
		return p.Type(ctx, chat, true)
	case "sees-online", "sees-away":
		p.Subscribe(w.owner.LID())
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool { return p.Present(w.owner.LID()) == (act == "sees-online") })
	case "stops-typing":
		return p.Type(ctx, chat, false)
	case "hears-late":
		least, err := time.ParseDuration(args[0])
		if err == nil {
			err = w.hear(ctx, p.Name(), chat, args[1])
		}
		if took := time.Since(w.typed); err == nil && took < least {
			err = fmt.Errorf("%s hears %q after %v, before %v", p.Name(), args[1], took, least)
		}
		return err
	case "sees-revoked":
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool {
			n := 0
			for _, m := range p.Messages(chat) {
				if !ownWords(m) && m.Revoked {
					n++
				}
			}
			return fmt.Sprint(n) == args[0]
		})
	}
	return fmt.Errorf("a person cannot %q", act)
}

// ownWords are what the person wrote, not the bot in the person's own chat.
func ownWords(m whatsapptest.Received) bool { return m.FromMe && m.Device == 0 }

// messageOf is the newest message with a text, once there is one.
func messageOf(ctx context.Context, p *whatsapptest.Phone, chat types.JID, text string, match func(whatsapptest.Received) bool) (found whatsapptest.Received, err error) {
	err = p.Wait(ctx, func(p *whatsapptest.Phone) bool {
		for _, m := range slices.Backward(p.Messages(chat)) {
			if m.Text == text && match(m) {
				found = m
				return true
			}
		}
		return false
	})
	return found, err
}

// A kill at any step of an edit costs neither the edit nor makes a second answer of it.
func TestKillDuringEdit(t *testing.T) {
	t.Parallel()
	for store, settings := range stores {
		for _, at := range []string{"after Put", "before Amend", "after Amend", "after SaveReply", "before Finish", "after Finish"} {
			t.Run(store+", "+at, func(t *testing.T) {
				if store == "mongo" {
					sparingly(t)
				}
				t.Parallel()
				ctx := withPatience(t)
				w, do := newStory(t)
				w.keepsIn(t, settings, "ALLOW=*")
				do(w.pair(ctx))
				alice, chat := w.phone("alice"), w.owner.LID()
				_, err := alice.Say(ctx, chat, "!ai wich")
				do(err)
				do(w.hear(ctx, "alice", chat, "You said: wich"))
				do(w.stop())
				do(w.start("KILL_AT=" + at))
				do(person(ctx, w, []string{"alice", "edits", "!ai wich", "!ai which"}))
				do(w.exits(-1))
				do(w.start())
				do(person(ctx, w, []string{"alice", "sees-edit", "You said: which"}))
				_, err = alice.Say(ctx, chat, "!ai next")
				do(err)
				do(w.hear(ctx, "alice", chat, "You said: next"))
				do(model(ctx, w, []string{"was-told", "which"}))
				do(model(ctx, w, []string{"was-not-told", "wich"}))
				if n := len(slices.DeleteFunc(alice.Messages(chat), ownWords)); n != 2 {
					t.Errorf("the bot shows %d messages, want 2", n)
				}
				do(w.stop())
				w.sound(t)
			})
		}
	}
}

// A call of the store that fails during an edit, done or not, costs neither the edit nor makes a second answer of it.
func TestFaultDuringEdit(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, store string) {
		ctx := withPatience(t)
		w, c := newSweepWorld(t, store)
		w.do(w.pair(ctx))
		for _, at := range []string{"Find", "Amend"} {
			for _, fault := range []verdict{failBefore, failAfter} {
				who := fmt.Sprintf("%s %c", at, fault)
				alice, chat := w.phone(who), w.owner.LID()
				_, err := alice.Say(ctx, chat, "!ai wich")
				w.do(err)
				w.do(w.hear(ctx, who, chat, "You said: wich"))
				hit := false
				c.on(func(call string) verdict {
					if call != at || hit {
						return pass
					}
					hit = true
					return fault
				})
				w.do(person(ctx, w.world, []string{who, "edits", "!ai wich", "!ai which"}))
				w.do(person(ctx, w.world, []string{who, "sees-edit", "You said: which"}))
				c.on(nil)
				if n := len(slices.DeleteFunc(alice.Messages(chat), ownWords)); n != 1 || !hit {
					t.Errorf("%s: the bot shows %d messages, want 1; failed: %t", who, n, hit)
				}
			}
		}
		w.do(w.stop())
	})
}
