package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
	"golang.org/x/sync/errgroup"
)

var (
	flood       = flag.Int("flood", 0, "how many messages one stranger sends in TestFlood, and as many to all of its groups; few without")
	floodGroups = flag.Int("flood-groups", 100, "how many groups those are")
)

// A stranger sends messages without end, to the bot and into groups that it is in, and so does somebody who may talk to it: nobody
// is answered who may not be, the person who may and floods is answered within the rate, the others are answered meanwhile, and memory is bounded.
func TestFlood(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, store string) {
		messages, groups := *flood, *floodGroups
		if messages == 0 {
			messages = 60
		}
		each := max(1, messages/groups) // group
		w := newMongoWorld(t, append([]string{"MONGO_ENABLED=False"}, stores[store](t)...)...)
		alice, bob, mallory := w.phone("alice"), w.phone("bob"), w.phone("mallory")
		ctx, cancel := context.WithTimeout(t.Context(), 3*patience+time.Duration(2*messages+each*groups)*50*time.Millisecond)
		defer cancel()
		w.do(w.pair(ctx, "ALLOW=+"+alice.Number()+",+"+bob.Number(), "RATE_PERSON=20/m", "RATE_CHAT=20/m"))
		var teams []types.JID
		for i := range groups {
			team, err := mallory.Group(ctx, fmt.Sprintf("team %d", i), w.owner.LID())
			w.do(err)
			teams = append(teams, team)
		}
		ask := func(question string) time.Duration {
			begun := time.Now()
			w.ask(ctx, "alice", question)
			w.answers(ctx, "alice", question)
			return time.Since(begun)
		}
		quiet := ask("before")
		before, begun := w.memory(), time.Now()

		var g errgroup.Group
		g.Go(func() error {
			for i := range messages {
				if _, err := mallory.Say(ctx, w.owner.LID(), fmt.Sprintf("!ai let me in %d", i)); err != nil {
					return err
				}
			}
			return nil
		})
		g.Go(func() error {
			for i := range each {
				for _, team := range teams {
					if _, err := mallory.Say(ctx, team, fmt.Sprintf("!ai let us in %d", i)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		g.Go(func() error {
			for i := range messages {
				if _, err := bob.Say(ctx, w.owner.LID(), fmt.Sprintf("!ai and %d", i)); err != nil {
					return err
				}
			}
			return nil
		})
		var took []time.Duration
		for i := range 5 {
			took = append(took, ask(fmt.Sprintf("during %d", i)))
		}
		w.do(g.Wait())
		took = append(took, ask("after"))
		grown := w.memory() - before
		for _, chat := range append(teams, w.owner.LID()) {
			for _, m := range mallory.Messages(chat) {
				if !m.FromMe {
					t.Errorf("the stranger heard %q", m.Text)
				}
			}
		}
		turns, asked := 0, w.model.Requests()
		for _, r := range asked {
			for _, m := range r.Messages {
				if strings.Contains(m.Text, "let me in") || strings.Contains(m.Text, "let us in") {
					t.Errorf("the model was told what a stranger said: %q", m.Text)
				}
			}
		}
		for _, m := range bob.Messages(w.owner.LID()) {
			if !m.FromMe {
				turns++
			}
		}
		// 20 in a minute at most, and the line that says so.
		if most := 21 + int(time.Since(begun).Minutes()+1)*20; turns > most {
			t.Errorf("the person who floods got %d answers, at most %d are due", turns, most)
		}
		notices := 0
		for _, m := range w.owner.Messages(w.owner.LID()) {
			if strings.Contains(m.Text, "!allow") {
				notices++
			}
		}
		if notices > 1+groups {
			t.Errorf("the owner was told of the stranger %d times", notices)
		}
		t.Logf("%d messages of a stranger, %d into %d groups, %d of somebody allowed, who got %d answers; alice waited %v before and at most %v meanwhile; the model was asked %d times; memory grew by %d KiB",
			messages, each*groups, groups, messages, turns, quiet.Round(time.Millisecond), slices.Max(took).Round(time.Millisecond), len(asked), grown>>10)
		if grown > growth {
			t.Errorf("memory grew by %d MiB", grown>>20)
		}
		w.do(w.stop())
	})
}
